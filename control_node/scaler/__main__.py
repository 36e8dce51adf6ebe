"""`python -m control_node.scaler --config node.json`: scale the lab until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_node import policies
from control_node.balancer.nginx import NginxBalancer
from control_node.scaler.api import make_app
from control_node.scaler.controller import Controller
from control_node.scaler.desk import Desk
from control_node.scaler.hands import Hands, Poster, Wishes
from control_node.scaler.runner import Runner
from control_node.scaler.state import Store
from control_node.scaler.status import scaler_status
from labcore.clock import Clock, SystemClock
from labcore.entry import listen_address, run, secret, serve
from labcore.errors import LabError, UsageProblem
from labcore.manager_client import ManagerClient
from labcore.web import MOST_BODY_BYTES, make_server
from labcore.wire.node import AGENT_TOKEN, SCALER_API_TOKEN, SCALER_TOKEN, NodeConfig

log = logging.getLogger(__name__)

THREADS = 4
GRACE_S = 2.0
STOP_S = 3.0
MANAGER_S = 4.0  # but for power, which has a limit of its own
# Two connections to each of 99 agents are more than the 256 that macOS begins with; 10,240 is the
# most that it gives.
OPEN_FILES = 10_240


def main(config: NodeConfig) -> None:
    """Scale and serve; returns after SIGTERM. Nodes and nginx go on as they are."""
    if config.manager_url is None:
        raise UsageProblem(f"node {config.node} has no manager_url", "a scaler needs one")
    _allow_files()
    clock = SystemClock()
    manager = ManagerClient(config.manager_url, secret(config, SCALER_TOKEN), timeout_s=MANAGER_S)
    folder = Path(config.directory) / "scaler"
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "state.json")
    controller = Controller(policies, config.group, store.load(clock.monotonic()))
    runner = Runner(config.lab, controller, store, clock)
    wishes = Wishes(config.lab, manager, clock)
    balancer = NginxBalancer.of_node(config, clock)
    hands = Hands(manager, balancer, wishes, secret(config, AGENT_TOKEN), clock, runner.report)
    poster = Poster(config.lab, manager, clock)
    status = scaler_status(config.lab, clock.now(), controller)
    desk = Desk(wishes, status, wake=runner.wake, reset=runner.reset_breaker)
    app = make_app(desk, frozenset(config.allowed_hosts), secret(config, SCALER_API_TOKEN))
    server = make_server(
        app,
        listen_address(config, "scaler"),
        threads=THREADS,
        most_body_bytes=MOST_BODY_BYTES,
    )
    _run_beside(server, lambda: asyncio.run(runner.run(hands, poster, desk)), runner, clock)


def _allow_files() -> None:
    """Raise the limit of open files, as far as it may be."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), most))


def _run_beside(server: Any, loop: Callable[[], None], runner: Runner, clock: Clock) -> None:
    """Serve in this thread and loop in another, until SIGTERM. Raises LabError if the loop fails.

    Then whoever supervises us starts us again: better than to answer without scaling.
    """
    failures: list[Exception] = []

    def work() -> None:
        try:
            loop()
        except Exception as error:
            log.exception("the scaler's loop failed")
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work, name="loop", daemon=True)
    thread.start()
    serve(server, grace_s=GRACE_S, clock=clock)
    runner.stop()
    thread.join(STOP_S)
    if failures:
        raise LabError(f"the scaler's loop failed: {failures[0]}")


if __name__ == "__main__":
    sys.exit(run("control_node.scaler", main))
