-- Revision 0002: move the functions that only our own code calls to the schema `internal`. Triggers and views keep using a
-- function that moves. A new database has none of them yet: the schema scripts, which run afterwards, create them in their place.
create schema if not exists internal;

do $$
declare
    moved regprocedure;
begin
    for moved in
        select oid
        from pg_proc
        where pronamespace = 'public'::regnamespace and proowner = current_user::regrole and proname = any(array[
            'analyze_tables', 'audit_labels', 'audit_of', 'audit_products', 'audit_truncate', 'begin_batch', 'claim_batch',
            'claim_next', 'claim_renewed_at', 'claim_stage', 'complete_batch', 'current_batch_id', 'database_identity',
            'fail_batch', 'fail_stage', 'finish_stage', 'hold_stage', 'holds_stage', 'holds_stage_lock',
            'labels_history_digest', 'listener_sessions', 'notify_audited', 'notify_batch_completed', 'notify_stage',
            'pending_batches', 'postpone_stage', 'products_at', 'products_history_digest', 'ready_at', 'record_load',
            'record_stage', 'refuse_changing_batch', 'refuse_known_id', 'refuse_new_id', 'refuse_rewriting_history',
            'release_stage', 'reopen_stage', 'require_readable', 'require_role', 'require_stage', 'retry_stage',
            'seal_batch', 'seconds_between', 'stage_lock_class', 'unrecorded_changes', 'verify_seals', 'week_of_batch',
            'with_digest'
        ])
    loop
        execute format('alter function %s set schema internal', moved);
    end loop;
end;
$$;
