"""Every fault of the suite for Spark, in the order in which it is run."""

import cluster_faults
import store_faults

FAULTS = [*cluster_faults.FAULTS, *store_faults.FAULTS]
