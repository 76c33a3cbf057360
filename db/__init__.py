"""The source files, PostgreSQL and the weekly load."""
