"""Fit the models on Apache Spark (ENGINE=spark). Only this package, listeners.spark and listeners.snapshot.spark import pyspark."""
