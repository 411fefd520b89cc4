"""What /metrics shows, in Prometheus form. No team, key or prompt is a label.

With several processes set PROMETHEUS_MULTIPROC_DIR to an empty folder that they share; any of them shows all.
"""

import functools
import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

CALLS = Counter("modelport_calls", "Calls answered.", ["surface", "path", "status"])
DURATION = Histogram("modelport_call_seconds", "From the request's head to the last byte.", ["path"], buckets=SECONDS)
FIRST_BYTE = Histogram(
    "modelport_first_byte_seconds", "From the request's head to the first byte of a stream.", ["path"], buckets=SECONDS
)
TOKENS = Counter("modelport_tokens", "Tokens billed.", ["path", "direction"])
COST = Counter("modelport_cost_usd", "Cost billed, in USD; a float for graphs, the ledger has the exact sum.", ["path"])
ATTEMPTS = Counter("modelport_attempts", "Attempts at targets.", ["outcome"])
IN_FLIGHT = Gauge("modelport_reservations_open", "Calls that hold a reservation now.", multiprocess_mode="livesum")
HELD = Gauge("modelport_calls_held", "Calls that wait for a deployment to wake.", multiprocess_mode="livesum")
WAKES = Counter("modelport_wakes", "Deployments that a call asked to wake.")
SETTLE_LAG = Histogram("modelport_settle_seconds", "From an answer's end to its durable bill.", buckets=SECONDS)
LIMITED = Counter("modelport_limited", "Calls refused by a limit.", ["scope", "kind"])
LIMITS_AWAY = Counter("modelport_limits_away", "Calls let through because Redis did not answer.")
REPLAYED = Counter("modelport_replayed", "Answers replayed for an Idempotency-Key.")
ORPHANS = Gauge("modelport_orphan_engines", "Engines without a row that were removed, ever.", multiprocess_mode="max")
LOG_LOST = Counter("modelport_request_log_lost", "Rows of the request log that could not be written.")


@functools.cache
def child(metric: Any, *labels: str) -> Any:
    """The metric for these values, looked up once: a call passes half a dozen of them."""
    return metric.labels(*labels)


def page() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
