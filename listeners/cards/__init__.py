"""Write the cards of datasets and models: one content, as a page for MLflow's preview and as Markdown for its descriptions."""
