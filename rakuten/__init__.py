"""The command line `rakuten`, and the queries that its commands run about past batches, datasets and models."""
