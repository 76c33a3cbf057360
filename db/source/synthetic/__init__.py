"""Generate a data set in the format of the Rakuten challenge, for demos, tests and benchmarks without the real data."""

from db.source.synthetic.generate import generate

__all__ = ["generate"]
