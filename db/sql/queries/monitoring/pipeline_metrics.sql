-- Return the numbers of the pipeline for Prometheus. The limit for the statement is set once for each connection.
select name, labels, value from pipeline_metrics(%(max_percentage)s)
