"""Read the source files, and load them into PostgreSQL week by week."""
