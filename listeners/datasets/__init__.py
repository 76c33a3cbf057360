"""The datasets that Spark writes: a folder of parquet files under DATASET_STORE, and its manifest. It needs no pyspark."""
