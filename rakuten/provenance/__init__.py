"""Queries about past batches, datasets and models: their sources, whether they are unchanged, whether they can be rebuilt."""
