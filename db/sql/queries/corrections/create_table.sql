-- Create the temporary table that holds a correction while it is applied: one row for each product in the correction file. A
-- row first holds the values from the file. complete_rows.sql then changes them to the values that the product will have after
-- the correction.
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
    exists_now      boolean,
    existed_before  boolean,  -- now or at any time before
    changes_product boolean,
    changes_label   boolean
) on commit drop
