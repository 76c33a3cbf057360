"""The suite's own modules lie beside its tests: put this folder where they are found, as running run.py does by itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
