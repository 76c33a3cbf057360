-- Describe every function for people: psql shows the descriptions with \df+. The first four functions are made for people. The
-- others belong to the commands, the listeners and the triggers: \df+ internal.*

comment on function products_as_of_batch is
    'Return the products with their classes as a completed batch left them; the result never changes.';
comment on function products_as_of is
    'Return the products with their classes as they were at a time; prefer products_as_of_batch().';
comment on function products_diff is
    'Return the products that differ between two completed batches, with what differs in each.';
comment on function pipeline_doctor is
    'Return what is wrong with the pipeline now and how to correct it, one row for each problem.';

-- reading
comment on function internal.products_at is 'Return the products as of a batch and a time; the two functions for people call it.';
comment on function internal.week_of_batch is 'Return the number of the newest week whose rows a batch contains.';
comment on function internal.database_identity is 'Return the identity of this database, which the names in MLflow carry.';
comment on function internal.pending_batches is 'Return the batches that wait for a stage, in the order of the hash chain.';
comment on function internal.ready_at is 'Return the time from which a stage may work on a batch.';
comment on function internal.seconds_between is 'Return the seconds between two times, of which the later one is given as text.';
comment on function internal.stage_lock_class is
    'Return the first key of the advisory locks with which the workers of a stage claim batches.';
comment on function internal.listener_sessions is
    'Return the connections of the listeners, with the time of the last sign of life of each.';
comment on function internal.pipeline_metrics is
    'Return the numbers of the pipeline for Prometheus, one row for each sample; the listeners answer them at /metrics.';
comment on function internal.storage_metrics is
    'Return the sizes of the pipeline''s data for Prometheus, in the form of pipeline_metrics().';
comment on function internal.model_server_sessions is
    'Return the connections of the model servers, with the versions that they serve and refuse.';
comment on function internal.artifact_files is
    'Return the files that the stages published in MLflow, with the size of each as recorded.';
comment on function internal.wal_bytes is
    'Return the bytes of the write-ahead log, or null if the owner of the function may not list its files.';
comment on function internal.claim_renewed_at is
    'Return when a worker last renewed its claim on a batch, or null if nobody holds the batch.';

-- checking the history
comment on function internal.verify_seals is
    'Return each completed batch, and what is wrong with its seal, or null if the seal is correct.';
comment on function internal.unrecorded_changes is
    'Return the rows of products and labels that differ from their newest history entries.';
comment on function internal.audit_of is 'Compute the digests and the seal of a batch from the history as it is now.';
comment on function internal.products_history_digest is 'Return the SHA-256 of a range of entries of products_history.';
comment on function internal.labels_history_digest is 'Return the SHA-256 of a range of entries of labels_history.';
comment on function internal.with_digest is 'Return the record of a stage with its own SHA-256.';

-- loading: only the loader may call these
comment on function internal.claim_batch is 'Claim a new, failed or abandoned batch for a load, and return its number.';
comment on function internal.begin_batch is 'Record all changes of this transaction as changes by a batch.';
comment on function internal.record_load is 'Record the result of a load in the row of its batch.';
comment on function internal.fail_batch is 'Mark a running batch as failed, with the reason.';
comment on function internal.complete_batch is 'Complete a running batch, which seals it and notifies the snapshot listener.';

-- the work of the two stages: only their listeners may call these
comment on function internal.claim_next is
    'Claim the oldest batch that is ready for a stage, and return the attempt with the batch.';
comment on function internal.claim_stage is
    'Claim one batch for a stage, and return the number of the attempt, or null if it is not free.';
comment on function internal.hold_stage is
    'Return true if a worker may go on with its claim, and take its lock again if it was lost.';
comment on function internal.holds_stage is
    'Return true if an attempt is still the newest one of a stage on a batch, and running.';
comment on function internal.holds_stage_lock is 'Return true if this session holds the lock of a stage on a batch.';
comment on function internal.record_champion_moves is
    'Record moves of the alias champion that are not recorded yet, and notify that it has moved.';
comment on function internal.record_verification is
    'Record that rakuten verify has run, with the number of its checks and of those that found a change.';
comment on function internal.finish_stage is 'Record the result of a stage for a batch, and notify that it is there.';
comment on function internal.fail_stage is
    'Record that a stage failed on a batch, and when it tries again, or that it gave the batch up.';
comment on function internal.postpone_stage is 'Postpone a batch during an outage, without counting a failure.';
comment on function internal.release_stage is 'Give a claim back before the stage is finished, without counting a failure.';
comment on function internal.reopen_stage is 'Let a stage build a result again whose run MLflow has lost.';
comment on function internal.retry_stage is 'Let a stage try a batch again that it gave up.';

-- inside: no role may call these
comment on function internal.record_stage is 'Add entries to the record of a stage, and release the claim on the batch.';
comment on function internal.notify_stage is 'Notify the listeners of a stage that a batch is ready.';
comment on function internal.require_stage is
    'Raise an error if a stage is unknown, or if the login is not a member of its role.';
comment on function internal.require_role is 'Raise an error if the login is not a member of the role of a step.';
comment on function internal.require_readable is
    'Raise an error if the metadata of a batch would make the views for people fail.';
comment on function internal.current_batch_id is 'Return the batch that this transaction works for, or null if there is none.';
comment on function internal.notify_audited is
    'Notify the channel products_audited that a statement has changed products or labels.';
comment on function internal.analyze_tables is 'Update the statistics of the planner for the four big tables.';
comment on function internal.refuse_known_id is 'Reject an inserted row whose id belongs to an earlier row in the history.';

-- triggers
comment on function internal.audit_products is 'Trigger: write each change of products to products_history.';
comment on function internal.audit_labels is 'Trigger: write each change of labels to labels_history.';
comment on function internal.audit_truncate is
    'Trigger: delete all rows before a TRUNCATE, so that the history records each of them.';
comment on function internal.refuse_new_id is 'Trigger: reject a change of the id of a product or a label.';
comment on function internal.refuse_rewriting_history is 'Trigger: reject a change or a deletion of what is recorded.';
comment on function internal.seal_batch is 'Trigger: seal a batch when it is completed.';
comment on function internal.refuse_changing_batch is 'Trigger: reject a change of a completed batch.';
comment on function internal.notify_batch_completed is 'Trigger: notify the snapshot listener that a batch is completed.';
