"""Create and send the OpenLineage events of the weekly load and of the two stages after it, snapshot and training."""
