"""Write batches into PostgreSQL. A batch is either one week of new rows, or one file of corrections to products."""
