"""AgentMetrics as text for Prometheus, in both formats that it asks for.

Nodes have no prometheus_client. Formats: prometheus.io/docs/instrumenting/exposition_formats and
the OpenMetrics 1.0 specification; gauges without timestamps look the same in both, but for the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from labcore.wire.metrics import AgentMetrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(metrics: AgentMetrics, *, openmetrics: bool) -> str:
    """One line for each gauge, each with its help and its type, labelled with the node's name."""
    lines = []
    for name, help_text, value in _gauges(metrics):
        lines += [
            f"# HELP {name} {help_text}",
            f"# TYPE {name} gauge",
            f'{name}{{node="{metrics.node}"}} {value!r}',
        ]
    return "\n".join([*lines, *(["# EOF"] if openmetrics else []), ""])


def _gauges(metrics: AgentMetrics) -> Iterator[tuple[str, str, float]]:
    yield "labctl_cpu_percent", "CPU used, mean of the last 5 s.", metrics.cpu
    yield "labctl_memory_percent", "Memory used.", metrics.memory.percent
    yield "labctl_memory_total_bytes", "Memory of the node.", metrics.memory.total
    yield "labctl_memory_available_bytes", "Memory not used.", metrics.memory.available
    yield "labctl_draining", "1 while the node drains.", int(metrics.status == "draining")
    yield "labctl_sample_seq", "Number of the sample.", metrics.seq
    yield "labctl_uptime_seconds", "Time since the node began.", metrics.uptime_s
    if metrics.in_flight is not None:
        yield "labctl_in_flight", "Requests the app is working on.", metrics.in_flight
    for name, value in metrics.gauges.items():
        yield f"labctl_app_{name}", "Exported by the app.", value
