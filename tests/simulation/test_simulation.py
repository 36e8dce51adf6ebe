"""A thousand lives of a lab, with everything that may go wrong in them."""

import sys
from pathlib import Path

import pytest

from labcore import commands
from tests.simulation import faults
from tests.simulation.__main__ import main
from tests.simulation.invariants import Broken, Watch
from tests.simulation.many import outcomes
from tests.simulation.world import Outcome, simulate

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 1000
PROCESSES = 2


@pytest.fixture(scope="module")
def lives() -> list[Outcome]:
    return list(outcomes(1, SEEDS, PROCESSES))


@pytest.mark.slow
def test_no_seed_breaks_an_invariant(lives):
    assert len(lives) == SEEDS
    assert [life.line for life in lives if life.broken] == []


def test_every_fault_befalls(lives):
    befell = {kind for life in lives for kind in life.told}
    assert befell == {kind.__name__ for kind in faults.KINDS} | {"demand_changes"}


def test_a_seed_is_the_whole_story():
    """In another process, too, where sets and dicts of strings are in another order."""
    told = [
        commands.run(
            (sys.executable, "-m", "tests.simulation", "7", "--events", "1000"),
            timeout_s=60.0,
            env={"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert simulate(7).digest in told[0]
    assert simulate(8).digest not in told[0]


def test_what_breaks_is_told_in_one_line_that_shows_it_again(monkeypatch, capsys):
    def broken(self, world):
        if world.loop.now - world.began > 20.0:
            raise Broken("never above max: 6 of 5")

    monkeypatch.setattr(Watch, "check", broken)
    assert main(["3", "--events", "5"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("python -m tests.simulation 3  # never above max: 6 of 5 at t=2")
