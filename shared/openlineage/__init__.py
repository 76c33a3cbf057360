"""OpenLineage events of the load and the stages."""
