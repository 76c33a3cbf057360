"""Every fault of the suite, in the order in which it is run."""

from faults import clock, disk, load, network, notifications, postgres, processes, replicas, serving, tracking

FAULTS = [
    *processes.FAULTS,
    *disk.FAULTS,
    *postgres.FAULTS,
    *network.FAULTS,
    *tracking.FAULTS,
    *notifications.FAULTS,
    *load.FAULTS,
    *clock.FAULTS,
    *replicas.FAULTS,
    *serving.FAULTS,
]
