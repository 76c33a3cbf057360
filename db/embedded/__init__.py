"""The PostgreSQL of demo, tests and laptop: binaries from a wheel or the system, the life cycle is ours.

`server` starts, attaches and stops; `cluster` keeps the files; `programs` finds PostgreSQL and `account` decides
who runs it; `owned` ties a server to this process; `postmaster` tells what serves a data directory and clears
what a crash left behind.
"""

from db.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
