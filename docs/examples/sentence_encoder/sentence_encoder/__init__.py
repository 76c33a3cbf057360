"""A trainer that reads sentence embeddings beside the default model."""
