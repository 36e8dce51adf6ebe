"""`python -m agent.app --config node.json`: serve the demo application until told to stop."""

from __future__ import annotations

import sys

from agent.app.demo import GAUGES_PATH, HEALTH_PATH, MOST_BODY_BYTES, make_app
from agent.app.traffic import Traffic
from labcore.clock import SystemClock
from labcore.entry import listen_address, run, serve
from labcore.web import make_server
from labcore.wire.node import NodeConfig

THREADS = 32
GRACE_S = 30.0


def main(config: NodeConfig) -> None:
    """Serve; returns after SIGTERM, when what was in flight is answered (at most 30 s)."""
    address = listen_address(config, "app")
    clock = SystemClock()
    traffic = Traffic(frozenset({HEALTH_PATH, GAUGES_PATH}))
    app = make_app(config, clock, lambda: {"in_flight": traffic.in_flight()})
    server = make_server(app, address, threads=THREADS, most_body_bytes=MOST_BODY_BYTES)
    traffic.watch(server)
    serve(server, grace_s=GRACE_S, clock=clock)


if __name__ == "__main__":
    sys.exit(run("agent.app", main))
