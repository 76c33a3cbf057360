"""The page /metrics of a listener, which Prometheus reads. It is off unless METRICS_PORT is set."""
