"""Ten thousand agents asked for their metrics by one process, held against aiohttp in the same run.

The fleet stands on the same machine: two processes that share its cores with the one that asks.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.fleet import address_of, allow_many_files
from benchmarks.harness.processes import free_address, running
from benchmarks.harness.rows import Row, at_most
from benchmarks.harness.sweeps import Sweeps
from labcore import codec, commands

AGENTS = 10_000
FLEETS = 2  # processes: an agent takes two of the files that one may open
SPARE_FILES = 200
MOST_WARM_S, MOST_PEAK_MIB = 2.0, 200.0
LIMIT_S = 300.0


def run(*, full: bool = False) -> list[Row]:
    """The rows of both; more rounds if `full`."""
    count = min(AGENTS, allow_many_files() - SPARE_FILES)
    if count < AGENTS:
        print(f"only {count} agents: no more files may be opened", file=sys.stderr)
    rounds = 30 if full else 6
    port = int(free_address().rpartition(":")[2])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        share = -(-count // FLEETS)
        for first in range(1, count + 1, share):
            size = min(share, count + 1 - first)
            argv = (
                sys.executable,
                "-m",
                "benchmarks.harness.fleet",
                *map(str, (first, size, port)),
            )
            log = Path(folder) / f"{first}.log"
            stack.enter_context(running(argv, address_of(first, port), log))
        ours, theirs = (measure(who, count, port, rounds) for who in ("labctl", "aiohttp"))
    name = f"labctl, {count} agents:"
    return [
        at_most(f"{name} warm sweep, worst", max(ours.wall_s[1:]), "s", MOST_WARM_S),
        at_most(f"{name} peak memory", ours.peak_mib, "MiB", MOST_PEAK_MIB),
        at_most(f"{name} no sample", ours.missing, "agents", 0),
        *rows("labctl", ours),
        *rows("aiohttp", theirs),
        Row("aiohttp: peak memory", theirs.peak_mib, "MiB"),
    ]


def measure(who: str, count: int, port: int, rounds: int) -> Sweeps:
    """In a process of its own."""
    argv = (
        sys.executable,
        "-m",
        "benchmarks.harness.sweeps",
        who,
        *map(str, (count, port, rounds)),
    )
    result = commands.run(argv, timeout_s=LIMIT_S).check(f"{who} cannot sweep")
    return codec.decode(Sweeps, json.loads(result.stdout))


def rows(who: str, found: Sweeps) -> list[Row]:
    """What is shown of each."""
    warm = sorted(found.wall_s[1:])
    return [
        Row(f"{who}: first sweep", found.wall_s[0], "s"),
        Row(f"{who}: warm sweep, median", warm[len(warm) // 2], "s"),
        Row(f"{who}: CPU of a warm sweep", sum(found.cpu_s[1:]) / len(warm), "s"),
    ]
