-- Return the numbers of the pipeline for Prometheus.
select name, labels, value from pipeline_metrics(%(max_percentage)s)
