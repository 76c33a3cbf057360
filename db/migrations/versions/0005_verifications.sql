-- Revision 0005: the runs of `rakuten verify`. No dataset and no model reads this table, so it needs no audit trail.
create table verifications (
    id          bigint generated always as identity primary key,
    verified_at timestamptz not null default clock_timestamp(),
    verified_by text not null,
    checks      integer not null check (checks >= 0),
    problems    integer not null check (problems between 0 and checks)
);
