"""Build datasets and fit models on Apache Spark (ENGINE=spark). Only this package imports pyspark."""
