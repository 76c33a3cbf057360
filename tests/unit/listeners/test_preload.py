"""What the fork server prepares must not keep it from starting."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# A limit on the size of files stands for the full disk: both end the unpacking of the model with an OSError.
SCRIPT = """
import resource
import listeners.snapshot.drift as drift
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
import listeners.preload
try:
    drift.language_identifier()
except OSError as error:
    print(error.strerror)
"""


def test_the_fork_server_starts_without_space_for_the_model_of_languages():
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "File too large\n"
