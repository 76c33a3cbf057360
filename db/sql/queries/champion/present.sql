-- Return the last move of the alias champion, with what the training stage has recorded about the model.
select version, run_id, batch_name, manifest_sha256 from champion
