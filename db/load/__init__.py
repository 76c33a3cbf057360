"""Write batches into PostgreSQL: a week of new rows, or a file of corrections."""
