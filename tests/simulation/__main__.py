"""`python -m tests.simulation SEED`, or `--seeds LAST` or `--seeds FIRST:LAST` for many."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.simulation.many import outcomes
from tests.simulation.world import simulate

SHOWN = 30
PROGRESS_S = 10.0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--seeds", metavar="[FIRST:]LAST")
    parser.add_argument("--events", type=int, default=SHOWN, help="how many of the last to show")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    if args.seeds:
        first, _, last = args.seeds.rpartition(":")
        return _live_many(int(first or 1), int(last), args.processes)
    outcome = simulate(args.seed or 0)
    _say("\n".join(outcome.events[-args.events :] if args.events else ()))
    _say(outcome.line if outcome.broken else f"seed {outcome.seed}: all held ({outcome.digest})")
    return int(bool(outcome.broken))


def _live_many(first: int, last: int, processes: int) -> int:
    began, told = time.perf_counter(), 0.0
    count, broken = last - first + 1, 0
    for done, outcome in enumerate(outcomes(first, last, processes), 1):
        if outcome.broken:
            broken += 1
            _say(outcome.line)
        took = time.perf_counter() - began
        if done == count or took - told >= PROGRESS_S:
            told = took
            sys.stderr.write(f"{done} of {count} seeds, {broken} broken, {took:.0f} s\n")
    _say(f"{count} seeds, {broken} broken, {took:.1f} s")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
