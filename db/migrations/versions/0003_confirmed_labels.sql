-- Revision 0003: the labels that a person has confirmed after a model had suspected them. No dataset and no model reads this
-- table, so it needs no audit trail.
create table confirmed_labels (
    productid    bigint not null,
    -- the label that was confirmed: if the product gets another one, a model may suspect that
    prdtypecode  integer not null,
    confirmed_at timestamptz not null default now(),
    confirmed_by text not null default session_user,
    primary key (productid, prdtypecode)
);
