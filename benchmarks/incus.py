"""What a person waits for with driver `incus`, beside a shell script of plain `incus launch`.

Needs an Incus with an image `labguest` (Debian 12 with systemd); measures nothing where there is
none. The script makes as many containers of the same image at once, each with the same limits, and
waits until systemd has brought them up: it has no identity, no services and no load balancer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from benchmarks.scale_latency import measured
from labcore.clock import SystemClock
from tests.e2e import guests
from tests.e2e.harness import Hands

CLOCK = SystemClock()
PREFIX = "labctl-bench"
PLAIN = """
set -eu
for i in $(seq "$2"); do
    (
        incus launch -q "$1" "$3-$i" -c limits.cpu.allowance=100ms/100ms -c limits.memory=512MiB
        until incus exec "$3-$i" -- systemctl is-system-running --wait >/dev/null 2>&1; do
            incus exec "$3-$i" -- systemctl is-failed '*' >/dev/null 2>&1 && break
        done
    ) &
done
wait
"""


def run(*, full: bool) -> list[Row]:
    """The bars are those of the goals; `full` repeats five times, not twice."""
    if why := guests.why_no_incus():
        sys.stderr.write(f"incus: not measured: {why}\n")
        return []
    with tempfile.TemporaryDirectory() as home:
        image = guests.incus_image(Path(home))
        hands = Hands(Path(home), "incus")
        guests.know(Path(home), image)
        try:
            repeats = 5 if full else 2
            small, plain_small = _sizes(hands, str(image.handle), 3, repeats)
            large, plain_large = _sizes(hands, str(image.handle), 31, 1)
            return [
                at_most("up of 1 + 2, median", small, "s", 6.0),
                at_most("the same, of plain launches", small / plain_small, "x", 1.1),
                at_most("up of 1 + 30", large, "s", 30.0),
                at_most("the same, of plain launches", large / plain_large, "x", 1.1),
                *measured(hands, "cold", 0, 4 * repeats, 2.5),
                *measured(hands, "standby", 1, 4 * repeats, 1.0),
            ]
        finally:
            hands.try_("server", "stop")


def _sizes(hands: Hands, image: str, count: int, repeats: int) -> tuple[float, float]:
    ours, plain = [], []
    agents = str(count - 1)
    sizes = ("--set", f"groups.agent.count={agents}", "--set", f"scaling.max={max(5, count)}")
    names = [f"{PREFIX}-{i}" for i in range(1, count + 1)]
    argv = ["sh", "-c", PLAIN, "sh", image, str(count), PREFIX]
    for _ in range(repeats):
        ours.append(_seconds(lambda: hands.up_only("bench", *sizes)))
        hands.do("destroy", "--lab", "bench", "--yes")
        try:
            plain.append(_seconds(lambda: subprocess.run(argv, check=True, timeout=300)))
        finally:
            subprocess.run(["incus", "delete", "-f", *names], check=False, timeout=300)
    sys.stderr.write(f"{count} nodes: ours {_shown(ours)} s, plain {_shown(plain)} s\n")
    return statistics.median(ours), statistics.median(plain)


def _shown(seconds: list[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)


def _seconds(command: Callable[[], object]) -> float:
    began = CLOCK.monotonic()
    command()
    return CLOCK.monotonic() - began
