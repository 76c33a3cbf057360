"""The search_path of our own connections, for the connections that a test opens without db.connect."""

from typing import Final

OPTION: Final = "-c search_path=public,internal,pg_temp"
