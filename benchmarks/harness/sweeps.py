"""`python -m benchmarks.harness.sweeps labctl|aiohttp COUNT PORT ROUNDS`: ask a whole fleet for its
metrics again and again, in this process alone; prints one `Sweeps` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from benchmarks.harness.fleet import address_of, allow_many_files, name_of
from control_node.scaler.collector import Collector, Target
from labcore import codec
from labcore.clock import SystemClock
from labcore.wire.metrics import AgentMetrics

AT_ONCE = 1000  # for aiohttp; more or less made it no faster


@dataclass(frozen=True)
class Sweeps:
    """Seconds of each sweep, the first with no connection open yet."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    missing: int  # agents without a sample, over all sweeps
    peak_mib: float


Sweep = Callable[[], Awaitable[int]]  # gives how many agents gave no sample


async def measure(sweep: Sweep, rounds: int) -> Sweeps:
    """Sweep so many times."""
    walls, cpus, missing = [], [], 0
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        missing += await sweep()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return Sweeps(tuple(walls), tuple(cpus), missing, peak_mib)


async def with_labctl(count: int, port: int, rounds: int) -> Sweeps:
    """By the scaler's collector."""
    clock = SystemClock()
    collector = Collector(clock, lambda: None)
    targets = [Target(name_of(i), None, address_of(i, port)) for i in range(1, count + 1)]

    async def sweep() -> int:
        began = clock.monotonic()
        await collector.sweep(targets)
        probes = (collector.probes.get(target.node) for target in targets)
        return sum(p is None or (p.metrics_asked_at or 0.0) < began for p in probes)

    found = await measure(sweep, rounds)
    collector.close()
    return found


async def with_aiohttp(count: int, port: int, rounds: int) -> Sweeps:
    """By a session of aiohttp that keeps all connections, and the same check of what comes."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    turn = asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(index: int) -> int:
            async with turn:
                url = f"http://{address_of(index, port)}/metrics"
                async with session.get(url) as response:
                    sample = codec.decode(AgentMetrics, await response.json())
            return int(sample.node != name_of(index))

        async def sweep() -> int:
            return sum(await asyncio.gather(*(ask(i) for i in range(1, count + 1))))

        return await measure(sweep, rounds)


def main(who: str, *numbers: str) -> None:
    """See the module."""
    allow_many_files()
    work = {"labctl": with_labctl, "aiohttp": with_aiohttp}[who]
    found = asyncio.run(work(*(int(number) for number in numbers)))
    print(json.dumps(codec.encode(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
