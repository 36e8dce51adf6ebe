"""What a person waits for, and what a lab weighs: real commands on a real lab (driver `local`).

Every time is that of a whole command, from the prompt to the prompt: `up` and `scale` end when
the nodes serve through nginx, so the time to the first request served is never longer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from labcore.clock import SystemClock
from tests.e2e.harness import Hands

CLOCK = SystemClock()
HELPS = 9
MIB = 1024 * 1024


def run(*, full: bool) -> list[Row]:
    """The bars are those of the design; `full` repeats what takes seconds five times, not twice."""
    repeats = 5 if full else 2
    with tempfile.TemporaryDirectory() as home:
        hands = Hands(Path(home))
        try:
            return [*_starts(hands), *_small_lab(hands, repeats), *_ten_nodes(hands, repeats)]
        finally:
            for lab in ("small", "ten"):
                hands.try_("destroy", "--lab", lab, "--yes")
            hands.try_("server", "stop")


def _seconds(command: Callable[[], object]) -> float:
    began = CLOCK.monotonic()
    command()
    return CLOCK.monotonic() - began


def _starts(hands: Hands) -> list[Row]:
    hands.do("--help")  # the first one compiles
    median = statistics.median(_seconds(lambda: hands.do("--help")) for _ in range(HELPS))
    return [at_most("labctl --help, median of 9", median, "s", 0.25)]


def _small_lab(hands: Hands, repeats: int) -> list[Row]:
    ups, outs = [], []
    for _ in range(repeats):
        hands.try_("destroy", "--lab", "small", "--yes")
        ups.append(_seconds(lambda: hands.up_only("small")))
        outs.append(_seconds(lambda: hands.do("scale", "--lab", "small", "3")))
    rows = [
        at_most("up of 1 + 2, median", statistics.median(ups), "s", 5.0),
        at_most("scale + 1, median", statistics.median(outs), "s", 2.0),
        *_weights(hands),
    ]
    hands.do("destroy", "--lab", "small", "--yes")
    return rows


def _weights(hands: Hands) -> list[Row]:
    bars = {
        "server_manager": ("server-manager", 80),
        "control_node.scaler": ("scaler", 60),
        "agent.app": ("agent's app, largest", 40),
        "agent.metrics": ("agent's metrics, largest", 40),
        "server_manager.drivers.local.supervisor": ("supervisor, largest", 40),
    }
    largest = dict.fromkeys(bars, 0.0)
    for process in hands.marked_processes():
        with_name = next((word for word in process.cmdline() if word in bars), None)
        if with_name is not None:
            largest[with_name] = max(largest[with_name], process.memory_info().rss / MIB)
    return [at_most(f"{bars[k][0]}, resident", v, "MiB", bars[k][1]) for k, v in largest.items()]


def _ten_nodes(hands: Hands, repeats: int) -> list[Row]:
    hands.up_only("ten", "--set", "groups.agent.count=9", "--set", "scaling.max=9")
    times = [_seconds(lambda: hands.status("ten")) for _ in range(max(repeats, 5))]
    sys.stderr.write(f"status of 10 nodes: {', '.join(f'{t:.2f}' for t in times)} s\n")
    return [at_most("status of 10 nodes, median", statistics.median(times), "s", 0.8)]
