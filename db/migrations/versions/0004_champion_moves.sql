-- Revision 0004: a copy of each move of MLflow's alias `champion`. The history in MLflow decides which model is promoted.
-- PostgreSQL keeps the copy for two reasons. It can notify the model server of each move. And the model server can compare the
-- copy with the alias in MLflow: if the two name different versions, a person has moved the alias by hand.
create table champion_moves (
    id           bigint generated always as identity primary key,  -- MLflow's numbers begin anew if its model is deleted
    move_sha256  text not null unique,
    number       integer not null,
    kind         text not null,
    from_version integer,
    to_version   integer,
    run_id       text,
    moved_at     timestamptz not null,
    moved_by     text not null,
    reason       text not null
);
