"""Read and check the CSV files of the Rakuten challenge, put the rows into a seeded random order, and choose the holdout."""
