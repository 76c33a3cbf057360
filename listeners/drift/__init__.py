"""Compare the products that a batch added with the products of earlier batches, and tell change from chance."""
