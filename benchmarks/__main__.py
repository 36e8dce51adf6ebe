"""`python -m benchmarks [name ...] [--full]`: measure, show a table, write results/latest.json.

Ends with 1 if a bar was missed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path

import benchmarks
from benchmarks.harness.rows import Row, table
from labcore import codec, files
from labcore.clock import SystemClock, rfc3339

RESULTS = Path(__file__).with_name("results")


def names() -> list[str]:
    """All benchmarks there are."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return [name for name in found if name not in ("__main__", "harness")]


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(names())}")
    parser.add_argument("--full", action="store_true", help="as long as the goals demand")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(names())):
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(names())}")
    results: dict[str, list[Row]] = {}
    for name in given.names or names():
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = importlib.import_module(f"benchmarks.{name}").run(full=given.full)
        print(f"\n{name}\n{table(results[name])}\n", flush=True)
    write(results, full=given.full)
    return int(any(row.ok is False for rows in results.values() for row in rows))


def write(results: dict[str, list[Row]], *, full: bool) -> None:
    """Replace results/latest.json."""
    RESULTS.mkdir(exist_ok=True)
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    value = {
        "at": rfc3339(SystemClock().now()),
        "machine": machine,
        "full": full,
        "rows": codec.encode(results),
    }
    files.write_json(RESULTS / "latest.json", value)


if __name__ == "__main__":
    sys.exit(main())
