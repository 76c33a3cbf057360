"""The snapshot stage builds a class-balanced dataset from a completed batch and publishes it to MLflow."""
