"""The text formats, read by Prometheus' own parsers."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from agent.metrics.exposition import render
from labcore.wire.metrics import AgentMetrics, Memory

METRICS = AgentMetrics(
    cpu=45.25,
    memory=Memory(8589934592, 4294967296, 50.0),
    status="draining",
    node="agent-1",
    seq=17,
    uptime_s=93.1,
    in_flight=3,
    gauges={"queued": 2.5, "tiny": 1e-09},
)
VALUES = {
    "labctl_cpu_percent": 45.25,
    "labctl_memory_percent": 50.0,
    "labctl_memory_total_bytes": 8589934592,
    "labctl_memory_available_bytes": 4294967296,
    "labctl_draining": 1,
    "labctl_sample_seq": 17,
    "labctl_uptime_seconds": 93.1,
    "labctl_in_flight": 3,
    "labctl_app_queued": 2.5,
    "labctl_app_tiny": 1e-09,
}


def test_prometheus_reads_both():
    for families in (
        list(read_text(render(METRICS, openmetrics=False))),
        list(read_openmetrics(render(METRICS, openmetrics=True))),
    ):
        assert {f.samples[0].name: f.samples[0].value for f in families} == VALUES
        assert {f.type for f in families} == {"gauge"}
        assert all(f.documentation for f in families)
        assert all(s.labels == {"node": "agent-1"} for f in families for s in f.samples)


def test_what_is_not_known_is_left_out():
    quiet = AgentMetrics(1.0, METRICS.memory, "active", "agent-1", 1, 1.0, None)
    names = {f.name for f in read_text(render(quiet, openmetrics=False))}
    assert "labctl_in_flight" not in names
    assert not any(name.startswith("labctl_app_") for name in names)
