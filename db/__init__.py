"""Read the source files (CSV files of products and labels), and load their rows into PostgreSQL week by week."""
