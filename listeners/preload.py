"""Do what each child process would do late, in the fork server, which imports this module when it starts. Then no batch waits for it.

Matplotlib, MLflow and skops import some of their modules only when they first need them. `packages` and `checkout` cache their results,
so no child process reads hundreds of files, and a run records the code that was imported, even if somebody changes the checkout later.
The fork server of the snapshot stage also loads the model that identifies languages, which is unpacked into TMPDIR (68 MB).
"""

import sys
from contextlib import suppress

import matplotlib.backends.backend_agg  # noqa: F401
import mlflow.pyfunc  # noqa: F401
import skops.io  # noqa: F401

from listeners.tracking.environment import checkout, packages

packages()
checkout()
if (drift := sys.modules.get("listeners.snapshot.drift")) is not None:
    # If that disk is full, the fork server must start nevertheless: the child process tries again, and its stage reports the outage.
    with suppress(OSError):
        drift.language_identifier()
