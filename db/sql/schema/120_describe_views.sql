-- Describe every view and column for people: psql shows the descriptions with \d+.

comment on view categories is 'The name of each product class, one row each.';
comment on column categories.prdtypecode is 'The code of the class, as in labels.prdtypecode.';
comment on column categories.name is 'The name of the class, which is our own: the challenge publishes only the codes.';

comment on view training_products is
    'The labelled products that are not held out, as they are now; products_as_of_batch() has them as of a batch.';
comment on column training_products.id is 'Our own number of the product, which never changes.';
comment on column training_products.productid is 'The number of the product in the source file.';
comment on column training_products.designation is 'The title of the product.';
comment on column training_products.description is 'The longer text about the product, or null if there is none.';
comment on column training_products.imageid is 'The number of the image of the product.';
comment on column training_products.image_path is 'The path of the image file, relative to the folder of the source files.';
comment on column training_products.sample_rank is 'The position of the product in the seeded random order, from 0.';
comment on column training_products.prdtypecode is 'The code of the class of the product.';
comment on column training_products.category is 'The name of the class of the product, or unknown if its code has no name.';

comment on view class_distribution is
    'The classes of the training products of each completed batch before balancing, one row for each batch and class.';
comment on column class_distribution.batch_id is 'The number of the batch (data_loads.id).';
comment on column class_distribution.batch_name is 'The name of the batch, for example week_7.';
comment on column class_distribution.prdtypecode is 'The code of the class.';
comment on column class_distribution.category is 'The name of the class, or unknown if its code has no name.';
comment on column class_distribution.products is
    'The number of training products of the class as of the batch, each counted once.';
comment on column class_distribution.share is 'The share of the class in all training products of the batch, from 0 to 1.';

comment on view drift is
    'How the products that each week added differ from those of earlier weeks, one row for each week, feature and reference.';
comment on column drift.batch_id is 'The number of the batch (data_loads.id).';
comment on column drift.batch_name is 'The name of the batch, for example week_7.';
comment on column drift.chain_number is 'The number of the batch in the hash chain, which orders the batches.';
comment on column drift.feature is
    'The property that is compared, for example class shares, title length, language, unknown words or confidence.';
comment on column drift.reference is
    'The earlier products: first (those of the first week) or before (those of the week before).';
comment on column drift.rows is 'The number of new products that were compared, a random sample of at most 2,000.';
comment on column drift.reference_rows is 'The number of earlier products that they were compared with.';
comment on column drift.psi is
    'The population stability index, from 0; many people call 0.1 to 0.25 a small change and more a large one.';
comment on column drift.js is 'The Jensen-Shannon divergence in bits, from 0 (equal) to 1 (nothing in common).';
comment on column drift.noise is
    'The largest divergence of 999 random divisions of the same products; without a change, 1 comparison in 1,000 exceeds it.';
comment on column drift.drifted is 'True if the divergence exceeds the noise.';

comment on view champion is
    'The present champion and what is recorded about its model, one row; no row before the first champion.';
comment on column champion.version is 'The version of the registered model, or null if the alias was deleted.';
comment on column champion.run_id is 'The MLflow run that trained the model, or null if it is not known.';
comment on column champion.batch_id is 'The batch of the model, or null if no batch has recorded this run.';
comment on column champion.batch_name is 'The name of the batch.';
comment on column champion.batch_seal is 'The seal of the batch.';
comment on column champion.manifest_sha256 is 'The SHA-256 of the list of the run''s files, with which the model is checked.';
comment on column champion.kind is 'What moved the alias: promotion, rollback or by hand.';
comment on column champion.moved_at is 'The time at which the alias was moved.';
comment on column champion.moved_by is 'The run that was promoted, or the person who rolled back.';
comment on column champion.reason is 'The result of the comparison, or the reason that the person gave.';

comment on view model_servers is 'The model servers that are connected now, one row for each.';
comment on column model_servers.pid is 'The number of the PostgreSQL process that serves the connection.';
comment on column model_servers.client_address is 'The address of the server, or null if it is on this machine.';
comment on column model_servers.version is 'The version of the model that it serves, or null if it has none yet.';
comment on column model_servers.refused_version is
    'The champion, if the server has rejected it and still serves the version before; else null.';
comment on column model_servers.last_sign_of_life is 'The time of the last ping; a server pings every few seconds.';

comment on view storage is
    'The bytes that the data takes, without temporary files: one row for each place.';
comment on column storage.kind is
    'What the row is: database; current, history or batches (tables); artifacts (files in MLflow); copies; write-ahead log.';
comment on column storage.object is
    'The database, the table, the kind of MLflow run, the folder of copies, or the folder of the write-ahead log.';
comment on column storage.bytes is 'The size in bytes; of a table with its indexes, of artifacts and copies as recorded.';
comment on column storage.size is 'The size in a unit that is easy to read, for example 12 MB.';
comment on column storage.index_bytes is
    'The part of the size that the indexes of the table take, in bytes, or null for anything else.';
comment on column storage.is_part_of_database is 'True for a table, whose bytes the row of the database includes.';
comment on column storage.runs_without_size is
    'The number of MLflow runs whose size no stage recorded, because an earlier version published them; null for the database.';

comment on view storage_growth is
    'An estimate of the bytes that each place of the view storage gains a week: the mean of the last four weeks after week 1.';
comment on column storage_growth.kind is 'What the row is about, as in storage.';
comment on column storage_growth.object is 'The database, the table, the kind of MLflow run or the folder, as in storage.';
comment on column storage_growth.bytes is 'The present size in bytes, as in storage.';
comment on column storage_growth.bytes_per_week is
    'The estimated growth a week in bytes; null before week 2, without recorded sizes, and for the write-ahead log.';

comment on view pipeline_status is 'What became of each batch: the load, the dataset and the model, one row for each batch.';
comment on column pipeline_status.batch_id is 'The number of the batch (data_loads.id).';
comment on column pipeline_status.batch_name is 'The name of the batch, for example week_7 or correction_2.';
comment on column pipeline_status.percentage is
    'The share of the training file that is loaded when the batch is complete, in percent.';
comment on column pipeline_status.status is 'The state of the load: running, completed or failed.';
comment on column pipeline_status.total_rows is 'The number of all rows of products when the batch was completed.';
comment on column pipeline_status.new_rows is 'The number of new rows of a week, or of rows of the file of a correction.';
comment on column pipeline_status.started_at is 'The time at which a loader last claimed the batch.';
comment on column pipeline_status.completed_at is 'The time at which the batch was completed.';
comment on column pipeline_status.load_error is 'The error of the last failed load, or null if there was none.';
comment on column pipeline_status.snapshot_state is 'The state of the dataset: waiting, running, finished or failed.';
comment on column pipeline_status.snapshot_attempts is 'The number of attempts to build the dataset.';
comment on column pipeline_status.snapshot_wake is
    'What woke the worker of the last attempt at the dataset, for example notify, start or poll.';
comment on column pipeline_status.snapshot_rows is 'The number of rows of the balanced dataset, with all copies.';
comment on column pipeline_status.dataset_run_id is 'The MLflow run that holds the dataset.';
comment on column pipeline_status.commit_to_wake_s is
    'The seconds from the completion of the batch to the wake-up of the snapshot worker.';
comment on column pipeline_status.commit_to_dataset_s is 'The seconds from the completion of the batch to the finished dataset.';
comment on column pipeline_status.snapshot_error is 'The last error of the dataset, or null.';
comment on column pipeline_status.training_state is 'The state of the model: waiting, running, finished or failed.';
comment on column pipeline_status.training_attempts is 'The number of attempts to train the model.';
comment on column pipeline_status.training_wake is
    'What woke the worker of the last attempt at the model, for example notify, start or poll.';
comment on column pipeline_status.model_run_id is 'The MLflow run that holds the model.';
comment on column pipeline_status.model_version is 'The version of the model in the registry of MLflow.';
comment on column pipeline_status.became_champion is
    'True if the model became the champion, the model in use, when it was registered.';
comment on column pipeline_status.f1_score is 'The weighted F1 score of the model on the holdout, from 0 to 1.';
comment on column pipeline_status.f1_score_ci_low is 'The lower end of the 95 % confidence interval of the F1 score.';
comment on column pipeline_status.f1_score_ci_high is 'The upper end of the 95 % confidence interval of the F1 score.';
comment on column pipeline_status.accuracy is 'The share of holdout products that the model classifies correctly, from 0 to 1.';
comment on column pipeline_status.dataset_to_wake_s is
    'The seconds from the finished dataset to the wake-up of the training worker.';
comment on column pipeline_status.commit_to_model_s is 'The seconds from the completion of the batch to the finished model.';
comment on column pipeline_status.training_error is 'The last error of the model, or null.';
comment on column pipeline_status.snapshot_wake_to_claim_s is
    'The seconds from the wake-up of the snapshot worker to its claim on the batch.';
comment on column pipeline_status.snapshot_claim_to_done_s is 'The seconds from the claim on the batch to the finished dataset.';
comment on column pipeline_status.snapshot_failures is
    'The number of times that building the dataset failed by the fault of the batch.';
comment on column pipeline_status.snapshot_outages is 'The number of times that an outage postponed the dataset.';
comment on column pipeline_status.training_wake_to_claim_s is
    'The seconds from the wake-up of the training worker to its claim on the batch.';
comment on column pipeline_status.training_claim_to_done_s is 'The seconds from the claim on the batch to the finished model.';
comment on column pipeline_status.training_failures is 'The number of times that training failed by the fault of the batch.';
comment on column pipeline_status.training_outages is 'The number of times that an outage postponed the training.';

comment on view stage_ledger is
    'What each stage did for each completed batch in its latest attempt, one row for each batch and stage.';
comment on column stage_ledger.batch_id is 'The number of the batch (data_loads.id).';
comment on column stage_ledger.batch_name is 'The name of the batch, for example week_7.';
comment on column stage_ledger.stage is 'The stage: snapshot builds the dataset, training builds the model.';
comment on column stage_ledger.state is 'The state of the stage: waiting, running, finished or failed.';
comment on column stage_ledger.attempts is 'The number of attempts so far.';
comment on column stage_ledger.failures is 'The number of attempts that failed by the fault of the batch.';
comment on column stage_ledger.outages is 'The number of attempts that an outage postponed.';
comment on column stage_ledger.wake is 'What woke the worker of the latest attempt, for example notify, start or poll.';
comment on column stage_ledger.ready_at is 'The first time at which the stage could work on the batch.';
comment on column stage_ledger.woken_at is 'The time at which the worker woke.';
comment on column stage_ledger.claimed_at is 'The time at which the worker claimed the batch.';
comment on column stage_ledger.finished_at is 'The time at which the worker finished.';
comment on column stage_ledger.retry_at is 'The time from which a worker may try again after a failure or an outage, or null.';
comment on column stage_ledger.outage_since is 'The time at which the present outage began, or null if there is none.';
comment on column stage_ledger.ready_to_wake_s is 'The seconds from ready_at to woken_at.';
comment on column stage_ledger.wake_to_claim_s is 'The seconds from woken_at to claimed_at.';
comment on column stage_ledger.claim_to_done_s is 'The seconds from claimed_at to finished_at.';
comment on column stage_ledger.worker is 'The worker of the latest attempt.';
comment on column stage_ledger.run_id is 'The MLflow run that the stage published.';
comment on column stage_ledger.error is 'The last error, or null.';
comment on column stage_ledger.held is
    'True while a session holds the lock of the stage on this batch, that is, while a worker works on it.';

comment on view batches is 'The batches with everything that was recorded about them as columns, one row each.';
comment on column batches.id is 'The number of the batch, in the order in which the batches were first claimed.';
comment on column batches.batch_name is 'The name of the batch, for example week_7 or correction_2.';
comment on column batches.kind is 'The kind of the batch: week or correction.';
comment on column batches.kind_number is 'The number in the name of the batch, for example 7 in week_7.';
comment on column batches.percentage is 'The share of the training file that is loaded when the batch is complete, in percent.';
comment on column batches.status is 'The state of the load: running, completed or failed.';
comment on column batches.total_rows is 'The number of all rows of products when the batch was completed, or 0 before that.';
comment on column batches.started_at is 'The time at which a loader last claimed the batch.';
comment on column batches.completed_at is 'The time at which the batch was completed and sealed, or null before that.';
comment on column batches.source is 'The files and settings that the load read, as JSON.';
comment on column batches.first_source is
    'The files and settings of the first load, which all later loads must use too, as JSON.';
comment on column batches.reason is 'The reason that somebody gave for the correction, or null for a week.';
comment on column batches.loaded_rows is 'The number of new rows of a week, or of rows of the file of a correction.';
comment on column batches.target_rows is 'The number of rows of the training file that are loaded when the batch is complete.';
comment on column batches.held_out is 'The number of products that the batch moved from the training rows to the holdout.';
comment on column batches.load_error is 'The error of the last failed load, or null if there was none.';
comment on column batches.chain_number is
    'The position of the batch in the hash chain, from 1, which is the order of completion.';
comment on column batches.products_up_to is 'The last entry of products_history that the batch covers (history_id).';
comment on column batches.labels_up_to is 'The last entry of labels_history that the batch covers (history_id).';
comment on column batches.seal is
    'The SHA-256 of the batch, its history entries and the seal of the batch before, in hexadecimal digits.';
comment on column batches.snapshot is 'The record of the snapshot stage for the batch, as JSON.';
comment on column batches.training is 'The record of the training stage for the batch, as JSON.';
comment on column batches.snapshot_state is 'The state of the dataset: waiting, running, finished or failed.';
comment on column batches.training_state is 'The state of the model: waiting, running, finished or failed.';
comment on column batches.dataset is 'What was recorded about the finished dataset, as JSON.';
comment on column batches.model is 'What was recorded about the finished model, as JSON.';
comment on column batches.dataset_run_id is 'The MLflow run that holds the dataset.';
comment on column batches.model_run_id is 'The MLflow run that holds the model.';
comment on column batches.model_version is 'The version of the model in the registry of MLflow.';
comment on column batches.metadata is 'Everything that was recorded about the batch, as in data_loads.metadata.';

comment on view identities is
    'The last id that each sequence gave and the last id that is known, to find a sequence that was set back.';
comment on column identities.table_name is 'The table whose ids come from the sequence.';
comment on column identities.sequence_name is 'The name of the sequence.';
comment on column identities.last_id is 'The last id that the sequence gave.';
comment on column identities.known_id is 'The greatest id that the tables know, or null if there is none.';
