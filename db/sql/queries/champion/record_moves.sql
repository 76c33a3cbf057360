-- Record moves of the alias champion, and notify the model server of them.
select internal.record_champion_moves(%(moves)s)
