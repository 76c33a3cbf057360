"""Make the report: one page with figures about the loads, the datasets, the models, the storage and the problems.

`tables.py` reads the data from PostgreSQL, `figures.py` and `heatmaps.py` draw it, `sections` and `summary.py` say what it shows,
and `page.py` writes the page.
"""
