"""Answer /metrics of a listener: the numbers of the pipeline, from PostgreSQL, and those of the process itself.

Threads answer the requests, so the listener's event loop does nothing for them but one short query of PostgreSQL, which does not
block it. Nothing runs as long as nobody asks. If PostgreSQL is unavailable, the process's own numbers are answered.

Both listeners answer the same numbers of the pipeline. So if one of them has ended, the other one reports it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Final

import psycopg
import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from db.sqlstates import meaning_of
from listeners.monitoring.address import address_error
from listeners.monitoring.facts import DEADLINE_S, PipelineFacts, Sample, families
from listeners.monitoring.process_state import ProcessState
from shared.config import Settings
from shared.disk import measure_disk
from shared.errors import PipelineError

logger = structlog.get_logger()

# What the metrics of the process itself say, for Prometheus. It adds `_total` to the name of a counter.
GAUGES: Final[Mapping[str, str]] = {
    "rakuten_database_up": "1 if PostgreSQL answered the numbers of the pipeline.",
    "rakuten_listener_working": "1 while the listener works on a batch.",
    "rakuten_listener_ping_age_seconds": "Seconds since PostgreSQL last answered a ping.",
    "rakuten_child_progress_age_seconds": "Seconds since the last sign of life of the child process that works; 0: none works.",
    "rakuten_disk_free_bytes": "Free bytes of the disk of STATE_PATH.",
    "rakuten_disk_size_bytes": "Size of the disk of STATE_PATH in bytes.",
}
COUNTERS: Final[Mapping[str, str]] = {
    "rakuten_listener_reconnects": "How often LISTEN connected again.",
    "rakuten_fenced": "How often the listener lost its claim on a batch.",
}
_MARGIN_S: Final = 1.0  # for the event loop, on a busy machine


class Exporter(Collector):
    """Answers /metrics from its creation until `close`. Create it on the listener's event loop.

    Args:
        settings: the settings of the pipeline, with a METRICS_PORT.
        conninfo: connection string, with the role of the listener.
        process: the state of the process.

    Raises:
        PipelineError: METRICS_PORT is in use, or METRICS_HOST is no address of this machine.
    """

    def __init__(self, settings: Settings, conninfo: str, process: ProcessState) -> None:
        self._process, self._state_path = process, settings.state_path
        self._loop = asyncio.get_running_loop()
        self._facts = PipelineFacts(conninfo, f"rakuten {process.stage} metrics", settings.max_percentage)
        self._database_is_up = True
        registry = CollectorRegistry()
        registry.register(self)
        host, port = settings.metrics_host, settings.metrics_port or 0
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise address_error(settings, error) from error
        logger.info("answering /metrics", address=self._server.server_address)

    async def close(self) -> None:
        """Stop answering, and close the connection to PostgreSQL."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        await self._facts.close()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of one scrape. It runs in a thread of its own."""
        samples = self._samples()
        yield from families(samples or [])
        process, work = self._process, self._process.work
        gauges = {
            "rakuten_database_up": samples is not None,
            "rakuten_listener_working": work.has_claim,
            "rakuten_listener_ping_age_seconds": process.ping_age_s(),
            "rakuten_child_progress_age_seconds": work.child_silent_s(),
            **self._disk(),
        }
        counters = {"rakuten_listener_reconnects": process.reconnects, "rakuten_fenced": work.fenced}
        for kind, texts, values in (
            (GaugeMetricFamily, GAUGES, gauges),
            (CounterMetricFamily, COUNTERS, counters),
        ):
            for name, value in values.items():
                metric = kind(name, texts[name], labels=("stage",))
                metric.add_metric([process.stage], float(value))
                yield metric

    def _samples(self) -> list[Sample] | None:
        """Return the numbers of the pipeline, or None if PostgreSQL does not answer them in time."""
        reading = asyncio.run_coroutine_threadsafe(self._facts.read(), self._loop)
        try:
            samples = reading.result(DEADLINE_S + _MARGIN_S)
        except (psycopg.Error, PipelineError, CancelledError, TimeoutError, OSError) as error:
            reading.cancel()
            if self._database_is_up:
                remedy = meaning_of(error).remedy if isinstance(error, psycopg.Error) else None
                problem = str(error).strip() or type(error).__name__
                logger.warning("PostgreSQL does not answer its metrics", error=problem, remedy=remedy)
            self._database_is_up = False
            return None
        self._database_is_up = True
        return samples

    def _disk(self) -> dict[str, float]:
        try:
            disk = measure_disk(self._state_path)
        except OSError:
            return {}
        return {"rakuten_disk_free_bytes": disk.free_bytes, "rakuten_disk_size_bytes": disk.size_bytes}
