"""Read and check the CSV files, order their rows, and split off the holdout."""
