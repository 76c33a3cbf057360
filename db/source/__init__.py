"""The CSV files: read, checked, put in order and split."""
