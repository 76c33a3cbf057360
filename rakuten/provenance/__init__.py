"""Examine past batches, datasets and models: find their sources, compare them, verify them and rebuild them."""
