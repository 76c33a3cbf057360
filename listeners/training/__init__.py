"""The training stage: one balanced dataset in, one evaluated and registered model out."""
