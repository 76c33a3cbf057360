"""Answer questions about past batches, datasets and models: their sources, whether they are unchanged and can be rebuilt."""
