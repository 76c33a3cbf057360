"""Create and send the OpenLineage events of the load and of the two stages, snapshot and training."""
