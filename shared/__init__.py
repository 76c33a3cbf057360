"""The parts that every other package uses: settings, events, MLflow names, logs, errors, and the hash that decides which rows are loaded, held out or repeated."""
