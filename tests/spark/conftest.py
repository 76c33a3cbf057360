"""The fault suite's modules lie in tests/chaos, and Spark's beside its tests: put both folders where they are found."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chaos")]
