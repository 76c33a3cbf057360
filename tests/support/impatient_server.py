"""The model server with another time limit for bodies: `python impatient_server.py SECONDS serve --model FOLDER`."""

import sys

from listeners.serving import app
from rakuten.__main__ import main

if __name__ == "__main__":
    app.BODY_TIMEOUT_S = float(sys.argv.pop(1))
    main()
