"""`python -m tests.simulation SEED`, or `--seeds FIRST:LAST` for many."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.simulation.many import outcomes
from tests.simulation.world import simulate

SHOWN = 30


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--seeds", metavar="FIRST:LAST")
    parser.add_argument("--events", type=int, default=SHOWN, help="how many of the last to show")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    if args.seeds:
        first, _, last = args.seeds.partition(":")
        began = time.perf_counter()
        broken = 0
        for outcome in outcomes(int(first), int(last), args.processes):
            if outcome.broken:
                broken += 1
                _say(outcome.line)
        count = int(last) - int(first) + 1
        took = time.perf_counter() - began
        _say(f"{count} seeds, {broken} broken, {took:.1f} s")
        return int(bool(broken))
    outcome = simulate(args.seed or 0)
    _say("\n".join(outcome.events[-args.events :]))
    _say(outcome.line if outcome.broken else f"seed {outcome.seed}: all held ({outcome.digest})")
    return int(bool(outcome.broken))


if __name__ == "__main__":
    sys.exit(main())
