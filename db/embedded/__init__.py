"""Run an embedded PostgreSQL for the demo, the tests and a laptop. Its programs come from a Python wheel or from the system.

`server` starts a server or attaches to a running one, and stops it. `cluster` manages the server's files. `programs` finds the
programs of PostgreSQL, and `account` chooses the account that runs them. `owned` runs a server that stops when this process
ends. `postmaster` finds the server process of a data directory, and removes what a killed server left behind.
"""

from db.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
