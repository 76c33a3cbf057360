"""The two long-running listeners and the command line."""
