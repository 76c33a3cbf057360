"""Run an embedded PostgreSQL for the demo, the tests and a laptop. Its programs come from a wheel or from the system.

`server` starts a server, attaches to a running server, and stops it. `cluster` keeps the files. `programs` finds the programs
of PostgreSQL, and `account` chooses the account that runs them. `owned` ends a server together with this process. `postmaster`
finds the process that serves a data directory, and removes what a crash left behind.
"""

from db.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
