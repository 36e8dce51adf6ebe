"""Many seeds, side by side in processes."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import Outcome, simulate

CHUNK = 10


def outcomes(first: int, last: int, processes: int) -> Iterator[Outcome]:
    """What came of the seeds from `first` to `last`, in their order."""
    context = multiprocessing.get_context("spawn")  # threads of ours would not survive a fork
    with ProcessPoolExecutor(processes, context) as pool:
        yield from pool.map(outcome, range(first, last + 1), chunksize=CHUNK)


def outcome(seed: int) -> Outcome:
    """What came of one seed, without its events if all went well. Errors of the simulation itself
    are told like broken invariants: they have a seed, too."""
    try:
        found = simulate(seed)
    except Exception as error:
        return Outcome(seed, f"{type(error).__name__}: {error}", 0.0, (), "", {})
    return found if found.broken else dataclasses.replace(found, events=())
