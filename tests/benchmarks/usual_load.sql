-- What people usually write: the same tables, audited row by row.
create table products (
    id          bigint generated always as identity primary key,
    designation text,
    description text,
    productid   bigint not null unique,
    imageid     bigint,
    image_path  text,
    created_at  timestamptz not null default now(),
    sample_rank bigint,
    split       text not null default 'train'
);

create table labels (
    id          bigint generated always as identity primary key,
    productid   bigint not null unique,
    prdtypecode integer not null
);

create table products_history (
    history_id     bigint generated always as identity primary key,
    product_id     bigint not null,
    productid      bigint not null,
    designation    text,
    description    text,
    imageid        bigint,
    image_path     text,
    operation_type text not null,
    operation_date timestamptz not null default now(),
    load_batch_id  bigint
);
create index products_history_product on products_history (product_id);

create table labels_history (
    history_id     bigint generated always as identity primary key,
    label_id       bigint not null,
    productid      bigint not null,
    prdtypecode    integer not null,
    operation_type text not null,
    operation_date timestamptz not null default now(),
    load_batch_id  bigint
);
create index labels_history_label on labels_history (label_id);

create function audit_product() returns trigger language plpgsql as $$
begin
    insert into products_history (
        product_id, productid, designation, description, imageid, image_path, operation_type, load_batch_id
    ) values (
        new.id, new.productid, new.designation, new.description, new.imageid, new.image_path, tg_op, 1
    );
    return new;
end;
$$;

create function audit_label() returns trigger language plpgsql as $$
begin
    insert into labels_history (label_id, productid, prdtypecode, operation_type, load_batch_id)
    values (new.id, new.productid, new.prdtypecode, tg_op, 1);
    return new;
end;
$$;

create trigger audit_product after insert or update on products for each row execute function audit_product();
create trigger audit_label after insert or update on labels for each row execute function audit_label();
