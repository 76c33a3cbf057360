"""Name what the stages compare the new products of a week with."""

from collections.abc import Mapping
from typing import Final

# The key is what the stages record, in drift.json and in PostgreSQL.
REFERENCES: Final[Mapping[str, str]] = {"first": "the first week", "before": "the week before"}
