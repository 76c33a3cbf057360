"""A synthetic data set in the Rakuten challenge's format, for demos, tests and benchmarks without the real data."""

from db.source.synthetic.generate import generate

__all__ = ["generate"]
