-- Create the temporary table that holds one week's new rows while they are loaded. PostgreSQL drops the table at the end of the
-- transaction, so a load that is killed leaves no rows behind.
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
