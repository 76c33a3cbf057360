"""Build the datasets on Apache Spark (ENGINE=spark). Only this package, listeners.spark and listeners.training.spark import pyspark."""
