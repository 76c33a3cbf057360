"""Every fault of the suite, in the order in which it is run."""

from faults import clock, load, network, notifications, postgres, processes, replicas, tracking

FAULTS = [
    *processes.FAULTS,
    *postgres.FAULTS,
    *network.FAULTS,
    *tracking.FAULTS,
    *notifications.FAULTS,
    *load.FAULTS,
    *clock.FAULTS,
    *replicas.FAULTS,
]
