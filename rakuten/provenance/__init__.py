"""Queries about past batches, datasets and models: what they were built from, if they are unchanged, if they can be rebuilt."""
