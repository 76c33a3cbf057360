"""Read and check the challenge's CSV files, put their rows into a seeded random order, and choose the held-out products."""
