"""What Prometheus is told: labs, servers by state, operations and how long they took."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from server_manager.manager import Manager

BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Metrics:
    """A registry of its own. `observe` is told of each operation."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._operations = Counter(
            "labctl_operations",
            "Operations on servers",
            ("operation", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "labctl_operation_seconds",
            "How long operations on servers took",
            ("operation",),
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def observe(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one operation."""
        self._operations.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)

    def watch(self, manager: Manager) -> None:
        """Tell of the labs of `manager` too; its drivers are asked at each scrape."""
        self._registry.register(_Labs(manager))

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)


class _Labs(Collector):
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def describe(self) -> list[Metric]:
        return []  # or the registry would ask every driver when this is registered

    def collect(self) -> Iterator[Metric]:
        labs = self._manager.labs()
        states = GaugeMetricFamily("labctl_labs", "Labs by state", labels=("state",))
        for state, count in Tally(str(lab.state) for lab in labs).items():
            states.add_metric((state,), count)
        yield states
        servers = GaugeMetricFamily(
            "labctl_servers", "Servers by lab, group and state", labels=("lab", "group", "state")
        )
        tally = Tally((lab.lab, s.group, str(s.state)) for lab in labs for s in lab.servers)
        for labels, count in tally.items():
            servers.add_metric(labels, count)
        yield servers
        desired = GaugeMetricFamily(
            "labctl_desired_count", "Nodes wished for in a group", labels=("lab", "group")
        )
        for lab in labs:
            for group in lab.groups:
                desired.add_metric((lab.lab, group.name), group.desired_count)
        yield desired
