"""The command line `rakuten`, and the queries about the past that its commands run."""
