"""Write runs and registered models to MLflow, and read them from it."""
