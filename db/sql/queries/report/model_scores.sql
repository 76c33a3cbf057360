-- The weighted F1 of the model of each batch on the holdout, with its 95 % interval.
select
    chain_number,
    batch_name,
    model_version,
    (model ->> 'f1_score')::double precision as f1,
    (model ->> 'f1_score_ci_low')::double precision as f1_low,
    (model ->> 'f1_score_ci_high')::double precision as f1_high,
    (model ->> 'f1_macro')::double precision as f1_macro,
    (model ->> 'accuracy')::double precision as accuracy,
    (model ->> 'champion')::boolean as became_champion
from batches
where model ->> 'f1_score' is not null
order by chain_number
