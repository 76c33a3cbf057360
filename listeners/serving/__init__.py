"""Serve the champion: find and check it, load it, swap it when the alias moves, and answer requests with it."""
