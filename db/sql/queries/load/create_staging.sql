-- Hold one week's new rows while they are loaded. The table ends with the transaction, so a killed load leaves no rows
-- anywhere.
create temporary table staging (
    productid   bigint not null,
    designation text,
    description text,
    imageid     bigint not null,
    image_path  text not null,
    sample_rank bigint not null,
    split       text not null,
    prdtypecode integer not null
) on commit drop
