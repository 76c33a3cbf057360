-- A correction on its way in: a row for each product of its file. First what the file gives, then what is to be.
create temporary table correction (
    row_number      integer primary key,
    operation       text not null,
    productid       bigint not null unique,
    designation     text,
    description     text,
    imageid         bigint,
    image_path      text,
    prdtypecode     integer,
    sample_rank     bigint,
    split           text,
    is_there        boolean,  -- now
    was_there       boolean,  -- at any time before
    changes_product boolean,
    changes_label   boolean
) on commit drop
