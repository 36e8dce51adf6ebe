"""Requests lost while the membership changes every 0.3 s: the lab's balancer against a plain script
(write nginx.conf with nginx's defaults, `nginx -s reload`). POST, kept connections, no retry.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import processes
from benchmarks.harness.load import Ledger, Load
from benchmarks.harness.rows import Row, at_least, at_most
from benchmarks.nginx_price import configuration
from control_node.balancer.layout import Layout, prepare
from control_node.balancer.model import Backend, Routing
from control_node.balancer.nginx import NginxBalancer
from labcore import commands
from labcore.clock import SystemClock
from labcore.nginx import program_version
from labcore.wire.lab import Balancer, Route
from labcore.wire.node import NodeConfig

CLIENTS = 48
GAP_S = 0.012
PERIOD_S = 0.3
QUICK = (3_000, 20)
FULL = (200_000, 200)
MAIN = Balancer("main", "control", (Route("/", "agent"),))

Change = Callable[[tuple[str, ...]], None]


@dataclass(frozen=True)
class Size:
    """How long: until there are at least so many requests and membership changes."""

    requests: int
    changes: int


def run(full: bool) -> list[Row]:
    """See the module. The script runs in the quick size always: it shows its loss soon enough."""
    size = Size(*(FULL if full else QUICK))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, processes.apps(3, Path(scratch)) as apps:
        for number, program in enumerate(processes.nginx_programs()):
            named = "nginx " + ".".join(map(str, program_version(program)))
            directory = Path(scratch, str(number))
            rows += by_lab(program, directory / "lab", apps, size, named)
            rows += by_script(program, directory / "script", apps, Size(*QUICK), named)
    return rows


def by_lab(
    program: str, directory: Path, apps: tuple[str, ...], size: Size, named: str
) -> list[Row]:
    """The lab's balancer; `submit` only when the last generation is confirmed."""
    node = NodeConfig(
        "bench", "control", "control", "control", "main", 1, 512, "tree", str(directory),
        {"nginx": processes.free_address()}, nginx=program,
    )  # fmt: skip
    prepare(node)
    address = node.listen["nginx"]
    balancer = NginxBalancer.of_node(node, SystemClock())

    def change(members: tuple[str, ...]) -> None:
        backends = tuple(Backend(f"agent-{apps.index(a) + 1}", a) for a in members)
        balancer.submit(Routing((MAIN,), {"agent": backends}))
        while not balancer.poll().confirmed:
            SystemClock().sleep(0.01)

    with processes.nginx(program, Layout.of_node(node).directory, address):
        change(apps)
        ledger, changes = asyncio.run(toggled(address, apps, change, size))
    lost = ledger.lost.total()
    return [
        at_most(f"{named}, lab: lost", lost, "requests", 0),
        at_least(f"{named}, lab: sent", ledger.sent, "requests", size.requests),
        at_least(f"{named}, lab: membership changes", changes, "", size.changes),
        Row(f"{named}, lab: p99", ledger.percentile_ms(99), "ms"),
    ]


def by_script(
    program: str, directory: Path, apps: tuple[str, ...], size: Size, named: str
) -> list[Row]:
    """The plain script."""
    (directory / "temp").mkdir(parents=True)
    (directory / "logs").mkdir()
    address = processes.free_address()

    def change(members: tuple[str, ...]) -> None:
        text = configuration("defaults", program, address, members)
        (directory / "nginx.conf").write_text(text)
        if (directory / "nginx.pid").exists():
            argv = (program, "-p", str(directory), "-e", "stderr", "-c", "nginx.conf")
            commands.run((*argv, "-s", "reload"), timeout_s=5).check("reload")

    change(apps)
    with processes.nginx(program, directory, address):
        ledger, changes = asyncio.run(toggled(address, apps, change, size))
    kinds = ", ".join(f"{n} {kind}" for kind, n in ledger.lost.items() if n)
    return [
        Row(f"{named}, script: lost ({kinds})", ledger.lost.total(), "requests"),
        Row(f"{named}, script: sent", ledger.sent, "requests"),
        Row(f"{named}, script: membership changes", changes, ""),
        Row(f"{named}, script: p99", ledger.percentile_ms(99), "ms"),
    ]


async def toggled(
    address: str, apps: tuple[str, ...], change: Change, size: Size
) -> tuple[Ledger, int]:
    """Load `address` while the last app leaves and joins; the ledger and the number of changes."""
    loop = asyncio.get_running_loop()
    load = Load(address, CLIENTS, GAP_S)
    enough: asyncio.Future[None] = loop.create_future()
    loading = loop.create_task(load.run(enough))
    changes = 0
    while changes < size.changes or load.ledger.sent < size.requests:
        due = loop.time() + PERIOD_S
        await loop.run_in_executor(None, change, apps if changes % 2 else apps[:-1])
        changes += 1
        await asyncio.sleep(max(0.0, due - loop.time()))
    enough.set_result(None)
    return await loading, changes
