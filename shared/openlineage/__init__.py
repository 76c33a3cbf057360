"""Create and send the OpenLineage events of the load and of both stages."""
