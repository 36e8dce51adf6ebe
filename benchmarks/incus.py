"""What a person waits for with driver `incus`, beside a shell script of plain `incus launch`.

Needs an Incus with an image `labguest` (Debian 12 with systemd and nginx); measures nothing where
there is none. The script ends where `labctl up` does: nginx in one container is answered by every
agent. Its agents are Python's own file server; it has no seeds, keys, metrics, scaler or registry.
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
image=$1 count=$2 prefix=$3
launch() {
    incus launch -q "$image" "$1" -c limits.cpu.allowance=100ms/100ms \\
        -c limits.memory=512MiB
    until incus exec -T "$1" -- systemctl is-active -q multi-user.target 2>/dev/null; do
        sleep 0.05
    done
}
address() {
    until incus list -f csv -c 4 "^$1\\$" | grep -o '^[0-9.]*' ; do sleep 0.05; done
}
agent() {
    launch "$1"
    app="mkdir /www && echo $1 >/www/index.html && exec python3 -m http.server -d /www 5000"
    incus exec -T "$1" -- systemd-run -q sh -c "$app"
    until curl -sf -o /dev/null "http://$(address "$1"):5000/"; do sleep 0.05; done
}
launch "$prefix-1" &
for i in $(seq 2 "$count"); do agent "$prefix-$i" & done
wait
to=$(for i in $(seq 2 "$count"); do echo "server $(address "$prefix-$i"):5000;"; done)
echo "upstream to { $to } server { listen 8080; location / { proxy_pass http://to; } }" |
    incus file push -q -p - "$prefix-1/etc/nginx/conf.d/agents.conf"
incus exec -T "$prefix-1" -- systemctl restart nginx
url="http://$(address "$prefix-1"):8080/"
served() { for i in $(seq 2 "$count"); do curl -s "$url"; done | sort -u | grep -c "^$prefix"; }
until [ "$(served)" = $((count - 1)) ]; do sleep 0.05; done
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
            small, plain_small = _sizes(hands, 3, repeats)
            large, plain_large = _sizes(hands, 31, 1)
            return [
                at_most("up of 1 + 2, median", small, "s", 6.0),
                at_most("the same, of the script", small / plain_small, "x", 1.1),
                at_most("up of 1 + 30", large, "s", 30.0),
                at_most("the same, of the script", large / plain_large, "x", 1.1),
                *measured(hands, "cold", 0, 4 * repeats, 2.5),
                *measured(hands, "standby", 1, 4 * repeats, 1.0),
            ]
        finally:
            hands.try_("server", "stop")


def _sizes(hands: Hands, count: int, repeats: int) -> tuple[float, float]:
    ours, plain = [], []
    agents = str(count - 1)
    sizes = ("--set", f"groups.agent.count={agents}", "--set", f"scaling.max={max(5, count)}")
    names = [f"{PREFIX}-{i}" for i in range(1, count + 1)]
    argv = ["sh", "-c", PLAIN, "sh", guests.SOURCE, str(count), PREFIX]
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
