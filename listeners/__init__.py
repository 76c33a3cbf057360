"""The two listener processes: one builds a dataset for each batch, the other trains a model on each of these datasets."""
