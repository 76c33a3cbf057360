"""Queries about the past: what was built from what, whether it is unchanged, and whether it can be rebuilt."""
