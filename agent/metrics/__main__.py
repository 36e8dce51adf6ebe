"""`python -m agent.metrics --config node.json`: serve the node's metrics until told to stop."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from agent.metrics.api import Sources, make_app
from agent.metrics.app_gauges import AppGauges
from agent.metrics.drain import DrainState
from agent.metrics.meters import Meter, SystemMeter, TreeMeter
from agent.metrics.sampler import Sampler
from labcore.clock import Clock, SystemClock
from labcore.entry import listen_address, run, secret, serve
from labcore.web import MOST_BODY_BYTES, Guard, make_server
from labcore.wire.node import AGENT_TOKEN, NodeConfig

THREADS = 4
GRACE_S = 3.0
GAUGES_S = 0.25


def main(config: NodeConfig) -> None:
    """Sample and serve; returns after SIGTERM."""
    clock = SystemClock()
    address = listen_address(config, "metrics")
    token = secret(config, AGENT_TOKEN)
    meter, began_at = _node(config, clock)
    folder = Path(config.directory) / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    sampler = Sampler(meter, clock)
    gauges = AppGauges(config.listen.get("app"), clock)
    app = make_app(
        Sources(
            node=config.node,
            sampler=sampler,
            gauges=gauges,
            drain=DrainState(folder / "drain.json", began_at),
            uptime_s=_uptime(began_at, clock),
        )
    )
    guard = Guard(
        hosts=frozenset(config.allowed_hosts),
        tokens=lambda: {token: "scaler"},
        is_open=lambda method, path: method in ("GET", "HEAD"),
    )
    server = make_server(guard.wrap(app), address, threads=THREADS, most_body_bytes=MOST_BODY_BYTES)
    threading.Thread(
        target=sampler.run, args=(lambda: gauges.refresh(GAUGES_S),), name="sampler", daemon=True
    ).start()
    serve(server, grace_s=GRACE_S, clock=clock)


def _node(config: NodeConfig, clock: Clock) -> tuple[Meter, float]:
    """What to measure, and when it began (seconds of the epoch).

    Without a machine of its own, the node is its supervisor, which started us, and all its others.
    """
    if config.scope == "system":
        return SystemMeter(), psutil.boot_time()
    if config.scope == "container":
        # When the host booted is nothing to a container.
        return SystemMeter(config.cpus), clock.now().timestamp()
    supervisor = os.getppid()
    meter = TreeMeter(supervisor, config.cpus, config.memory_mib, clock)
    return meter, psutil.Process(supervisor).create_time()


def _uptime(began_at: float, clock: Clock) -> Callable[[], float]:
    """Seconds since then, by the clock that does not jump."""
    started = clock.monotonic()
    before = max(0.0, clock.now().timestamp() - began_at)
    return lambda: before + clock.monotonic() - started


if __name__ == "__main__":
    sys.exit(run("agent.metrics", main))
