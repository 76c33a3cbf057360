"""Start Apache Spark for a job of either stage, read the files of a dataset with it, and say what its errors mean."""
