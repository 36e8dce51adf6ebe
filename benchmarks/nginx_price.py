"""What the lab's nginx.conf costs: requests per second against the same nginx with a hand-written
one that has the same keep-alive directives, and against nginx's defaults.

All run side by side before the same apps and are loaded in turn, many short rounds each; what
counts is the median of the ratios within a round, so that a busy machine slows all alike. CPU time
per request is nginx's own, and sees a difference that a slow client hides. The hand-written one
runs twice: how far the twins are apart is what a ratio here may be off by.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.harness import processes
from benchmarks.harness.load import Load
from benchmarks.harness.rows import Row, at_least
from control_node.balancer.model import Backend, Routing
from control_node.balancer.render import Settings, render
from labcore.nginx import KEEPALIVE_MIN_TIMEOUT, program_version
from labcore.wire.lab import Balancer, Route

CLIENTS = 48
LEAST_RATIO = 0.95
WARM_UP_S = 0.15
NAMES = ("lab", "hand-written", "defaults", "twin")
COMMON = """
worker_processes 2;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    upstream app {{
        {servers}
        {upstream}
    }}
    {http}
    server {{
        listen {address};
        location / {{
            proxy_pass http://app;
            {location}
        }}
    }}
}}
"""


@dataclass
class Candidate:
    """One nginx with one configuration."""

    name: str
    address: str
    master: psutil.Process
    rates: list[float] = field(default_factory=list)
    cpu_s: float = 0.0  # of all rounds together: the kernel counts it in steps of 10 ms
    answered: int = 0

    def measure(self, seconds: float) -> None:
        """One round, after one to open the connections that the pause since the last closed."""
        asyncio.run(Load(self.address, CLIENTS).run(WARM_UP_S))
        before = self._cpu_s()
        ledger = asyncio.run(Load(self.address, CLIENTS).run(seconds))
        self.rates.append(len(ledger.latencies_s) / ledger.seconds)
        self.cpu_s += self._cpu_s() - before
        self.answered += len(ledger.latencies_s)

    @property
    def cpu_us(self) -> float:
        """CPU time of one request."""
        return self.cpu_s / self.answered * 1e6

    def _cpu_s(self) -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in self.master.children())


def run(full: bool) -> list[Row]:
    """See the module. Each program: 30 rounds of 0.3 s, or 100 of 0.5 s."""
    rounds, seconds = (100, 0.5) if full else (30, 0.3)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, processes.apps(2, Path(scratch)) as addresses:
        for number, program in enumerate(processes.nginx_programs()):
            directory = Path(scratch, str(number))
            with candidates(program, directory, addresses) as found:
                for turn in range(rounds):
                    first = turn % len(found)
                    for candidate in found[first:] + found[:first]:
                        candidate.measure(seconds)
            rows += judged(program, found)
    return rows


@contextlib.contextmanager
def candidates(
    program: str, directory: Path, apps: tuple[str, ...]
) -> Iterator[tuple[Candidate, ...]]:
    """An nginx with each of the configurations."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in NAMES:
            address = processes.free_address()
            prefix = directory / name
            (prefix / "temp").mkdir(parents=True)
            (prefix / "logs").mkdir()
            (prefix / "nginx.conf").write_text(configuration(name, program, address, apps))
            master = stack.enter_context(processes.nginx(program, prefix, address))
            found.append(Candidate(name, address, master))
        yield tuple(found)


def configuration(name: str, program: str, address: str, apps: tuple[str, ...]) -> str:
    """The text of one candidate's nginx.conf."""
    version = program_version(program)
    if name == "lab":
        members = tuple(Backend(f"agent-{n}", app) for n, app in enumerate(apps, 1))
        main = Balancer("main", "control", (Route("/", "agent"),))
        user = "root root" if psutil.Process().uids().effective == 0 else None
        return render(Routing((main,), {"agent": members}), Settings(address, version, user=user))
    servers = " ".join(f"server {app};" for app in apps)
    if name == "defaults":
        http = "access_log logs/access.log;"
        return COMMON.format(servers=servers, upstream="", http=http, address=address, location="")
    kept = "keepalive_timeout 75s; keepalive_min_timeout 1s;"
    return COMMON.format(
        servers=servers,
        upstream="zone app 64k; least_conn; keepalive 64;",
        http="access_log off; "
        + (kept if version >= KEEPALIVE_MIN_TIMEOUT else "keepalive_timeout 0;"),
        address=address,
        location='proxy_http_version 1.1; proxy_set_header Connection "";',
    )


def judged(program: str, found: tuple[Candidate, ...]) -> list[Row]:
    """The rows of one program."""
    lab, hand, defaults, twin = found
    version = program_version(program)
    named = "nginx " + ".".join(map(str, version))
    price = ratio(lab.rates, hand.rates)
    name = f"{named}: lab / hand-written"
    rows = [
        at_least(name, price, "x", LEAST_RATIO)
        if version >= KEEPALIVE_MIN_TIMEOUT
        else Row(name, price, "x"),
        Row(f"{name}, by CPU", hand.cpu_us / lab.cpu_us, "x"),
        Row(f"{named}: lab / defaults", ratio(lab.rates, defaults.rates), "x"),
        Row(f"{named}: twin / hand-written", ratio(twin.rates, hand.rates), "x"),
        Row(f"{named}: twin / hand-written, by CPU", hand.cpu_us / twin.cpu_us, "x"),
    ]
    for candidate in found:
        rows.append(Row(f"{named}, {candidate.name}", statistics.median(candidate.rates), "req/s"))
    for candidate in found:
        rows.append(Row(f"{named}, {candidate.name}: CPU", candidate.cpu_us, "us/req"))
    return rows


def ratio(one: list[float], other: list[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
