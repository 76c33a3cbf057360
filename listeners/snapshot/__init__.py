"""The snapshot stage: from a completed batch to a class-balanced dataset in MLflow."""
