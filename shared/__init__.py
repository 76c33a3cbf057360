"""The parts that every other package uses: settings, events, MLflow names, logs, errors, and the hash that chooses rows."""
