"""Compare the products that a batch added with the products of earlier batches, and decide whether a difference is more than chance."""
