"""Many seeds, side by side in processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import Outcome, simulate

CHUNK = 10


def broken_ones(first: int, last: int, processes: int) -> list[Outcome]:
    """The outcomes that broke something, of the seeds from `first` to `last`, in their order."""
    context = multiprocessing.get_context("spawn")  # threads of ours would not survive a fork
    with ProcessPoolExecutor(processes, context) as pool:
        outcomes = pool.map(_outcome, range(first, last + 1), chunksize=CHUNK)
        return [outcome for outcome in outcomes if outcome.broken]


def _outcome(seed: int) -> Outcome:
    try:
        return simulate(seed)
    except Exception as error:  # of the simulation itself: say of which seed
        return Outcome(seed, f"{type(error).__name__}: {error}", 0.0, (), "", 0.0, {})
