-- Describe every table and column for people: psql shows the descriptions with \d+. The descriptions of the views, functions and
-- roles are in the next scripts. A test finds each object that has no description. All times are those of the server's clock.

comment on table products is 'The products as they are now, one row each; every change is recorded in products_history.';
comment on column products.id is 'Our own number of the product, which never changes.';
comment on column products.designation is 'The title of the product, at most 100000 characters.';
comment on column products.description is
    'The longer text about the product, at most 100000 characters, or null if the file has none.';
comment on column products.productid is 'The number of the product in the source file, which only a correction can change.';
comment on column products.imageid is 'The number of the image of the product in the source file.';
comment on column products.image_path is 'The path of the image file, relative to the folder of the source files.';
comment on column products.created_at is 'The time at which the row was inserted.';
comment on column products.sample_rank is
    'The position of the row in the seeded random order in which the weeks take rows, from 0; null if no file has the product.';
comment on column products.split is
    'The use of the product: train for the datasets, or holdout for the evaluation, which no dataset contains.';

comment on table labels is 'The class of each product as it is now, one row each; every change is recorded in labels_history.';
comment on column labels.id is 'Our own number of the label, which never changes.';
comment on column labels.productid is 'The number of the product that has this label (products.productid).';
comment on column labels.prdtypecode is 'The code of the class of the product; the view categories has the names.';

comment on table confirmed_labels is
    'The labels that a person has confirmed after a model had suspected them; rakuten suspects leaves them out.';
comment on column confirmed_labels.productid is 'The number of the product that has this label (products.productid).';
comment on column confirmed_labels.prdtypecode is 'The label that was confirmed.';
comment on column confirmed_labels.confirmed_at is 'The time at which the label was confirmed.';
comment on column confirmed_labels.confirmed_by is 'The login that confirmed the label.';

comment on table champion_moves is
    'The moves of the alias champion in MLflow, in the order in which they were recorded here; rakuten champion shows them.';
comment on column champion_moves.id is 'The position of the move in this table; the last one is that of the present champion.';
comment on column champion_moves.move_sha256 is 'The SHA-256 of the move''s record in MLflow.';
comment on column champion_moves.number is 'The number of the move in the history in MLflow.';
comment on column champion_moves.kind is 'What moved the alias: promotion, rollback or by hand.';
comment on column champion_moves.from_version is 'The version that was champion before, or null if there was none.';
comment on column champion_moves.to_version is 'The version that is champion since, or null if the alias was deleted.';
comment on column champion_moves.run_id is 'The MLflow run that trained the new champion, or null if it is not known.';
comment on column champion_moves.moved_at is 'The time at which the alias was moved, by the clock of the process that moved it.';
comment on column champion_moves.moved_by is 'The run that was promoted, or the person who rolled back.';
comment on column champion_moves.reason is 'The result of the comparison, or the reason that the person gave.';

comment on table verifications is 'The runs of rakuten verify, in the order in which they ended; an alert asks for the last one.';
comment on column verifications.id is 'The number of the run.';
comment on column verifications.verified_at is 'The time at which the run ended.';
comment on column verifications.verified_by is 'The login that ran it.';
comment on column verifications.checks is 'The number of its checks.';
comment on column verifications.problems is 'The number of the checks that found a change.';

comment on table data_loads is
    'The batches, one row for each weekly load and each correction; the view batches shows the metadata as columns.';
comment on column data_loads.id is 'The number of the batch, in the order in which the batches were first claimed.';
comment on column data_loads.batch_name is 'The name of the batch, for example week_7 or correction_2.';
comment on column data_loads.percentage is
    'The share of the training file that is loaded when the batch is complete, in percent.';
comment on column data_loads.total_rows is 'The number of all rows of products when the batch was completed, or 0 before that.';
comment on column data_loads.started_at is 'The time at which a loader last claimed the batch.';
comment on column data_loads.completed_at is 'The time at which the batch was completed and sealed, or null before that.';
comment on column data_loads.status is 'The state of the load: running, completed or failed.';
comment on column data_loads.metadata is
    'A JSON object with what was recorded about the batch: source, load, audit (the seal), snapshot and training.';

comment on table products_history is
    'Every change of products, one row for each changed product; nobody but the owner can change or delete a row.';
comment on column products_history.history_id is 'The number of the entry, in the order of the changes.';
comment on column products_history.product_id is 'The number of the changed product (products.id).';
comment on column products_history.productid is 'The number of the product in the source file, after the change.';
comment on column products_history.designation is 'The title of the product after the change, or the last one if it was deleted.';
comment on column products_history.description is
    'The longer text about the product after the change, or the last one if it was deleted.';
comment on column products_history.imageid is 'The number of the image of the product after the change.';
comment on column products_history.image_path is 'The path of the image file after the change.';
comment on column products_history.operation_type is 'The kind of the change: INSERT, UPDATE or DELETE.';
comment on column products_history.operation_date is
    'The time at which the statement changed the product, which is before the commit.';
comment on column products_history.load_batch_id is
    'The batch that made the change (data_loads.id), or null if somebody made it outside any batch.';
comment on column products_history.sample_rank is 'The position of the product in the seeded random order, from 0.';
comment on column products_history.split is 'The use of the product after the change: train or holdout.';
comment on column products_history.created_at is 'The time at which the row of the product was inserted.';
comment on column products_history.changed_by is 'The role that logged in and made the change.';
comment on column products_history.application is 'The name of the program that made the change (application_name).';
comment on column products_history.transaction_id is 'The number of the transaction that made the change.';

comment on table labels_history is
    'Every change of labels, one row for each changed label; nobody but the owner can change or delete a row.';
comment on column labels_history.history_id is 'The number of the entry, in the order of the changes.';
comment on column labels_history.label_id is 'The number of the changed label (labels.id).';
comment on column labels_history.productid is 'The number of the product that has the label, after the change.';
comment on column labels_history.prdtypecode is
    'The code of the class after the change, or the last one if the label was deleted.';
comment on column labels_history.operation_type is 'The kind of the change: INSERT, UPDATE or DELETE.';
comment on column labels_history.operation_date is
    'The time at which the statement changed the label, which is before the commit.';
comment on column labels_history.load_batch_id is
    'The batch that made the change (data_loads.id), or null if somebody made it outside any batch.';
comment on column labels_history.changed_by is 'The role that logged in and made the change.';
comment on column labels_history.application is 'The name of the program that made the change (application_name).';
comment on column labels_history.transaction_id is 'The number of the transaction that made the change.';

-- db/protections.py writes the comment of the table alembic_version after all scripts.
comment on column alembic_version.version_num is 'The newest revision of the tables that rakuten db upgrade has applied.';
