-- Where the champion comes from: its batch, the batch's seal, the dataset and the model.
select
    champion.version,
    champion.batch_name,
    batches.chain_number,
    batches.completed_at,
    batches.total_rows,
    batches.seal,
    batches.dataset_run_id,
    batches.dataset ->> 'dataset_sha256' as dataset_sha256,
    batches.dataset ->> 'dataset_digest' as dataset_digest,
    (batches.dataset ->> 'total_rows')::bigint as dataset_rows,
    champion.run_id as model_run_id,
    champion.manifest_sha256,
    (batches.model ->> 'f1_score')::double precision as f1,
    (batches.model ->> 'f1_score_ci_low')::double precision as f1_low,
    (batches.model ->> 'f1_score_ci_high')::double precision as f1_high,
    champion.moved_at,
    champion.moved_by,
    champion.kind,
    champion.reason
from champion
left join batches on batches.id = champion.batch_id
