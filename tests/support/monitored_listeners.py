"""Listeners as processes of their own that answer /metrics, each on a port of its own."""

import socket
from contextlib import ExitStack

from listener_processes import Listeners

from shared.events import Stage


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


class MonitoredListeners(Listeners):
    """`variables` are further environment variables of the listeners that are started from now on."""

    def __init__(self, database, settings):
        super().__init__(database, settings)
        self.ports = dict(zip(Stage, free_ports(len(Stage)), strict=True))
        self.variables: dict[str, str] = {}

    def run(self, stage, command, **variables):
        port = {"METRICS_PORT": str(self.ports[stage])}
        return super().run(stage, command, **port, **self.variables, **variables)

    def stop_one(self, stage):
        process = self.processes.pop(stage)
        process.terminate()
        assert process.wait(60) == 0
