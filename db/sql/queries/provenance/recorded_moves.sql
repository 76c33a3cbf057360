-- Return the recorded moves of the alias champion, in the order in which they were recorded.
select move_sha256, number, kind, from_version, to_version, run_id, moved_at as at, moved_by as by, reason
from champion_moves
order by id
