"""Break a Spark cluster in every way that we can cause, and look whether each week still becomes one dataset and one model.

python tests/spark/fault_suite.py      # the options of tests/chaos/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))

import run
import spark_report
from spark_environment import open_spark_environment
from spark_faults import FAULTS

if __name__ == "__main__":
    sys.exit(run.main(FAULTS, open_spark_environment, spark_report.write))
