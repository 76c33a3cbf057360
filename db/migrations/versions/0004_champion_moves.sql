-- Revision 0004: each move of MLflow's alias `champion`, as MLflow's history has it. The history in MLflow decides what is
-- promoted. This copy tells the model server that the alias has moved, and to where. So a server that reads another champion in
-- MLflow knows that somebody has moved the alias by hand.
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
