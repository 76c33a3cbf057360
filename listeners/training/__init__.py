"""The training stage trains a model on a balanced dataset, evaluates the model and registers it in MLflow."""
