"""The command line `rakuten`, and the queries that its commands run to trace past batches, datasets and models."""
