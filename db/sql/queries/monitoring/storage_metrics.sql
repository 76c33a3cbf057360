-- Return the sizes of the pipeline's data for Prometheus.
select name, labels, value from storage_metrics()
