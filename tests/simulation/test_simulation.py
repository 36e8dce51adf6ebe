"""A thousand lives of a lab, with everything that may go wrong in them."""

import functools
import sys
from pathlib import Path

import pytest

from labcore import commands
from tests.simulation import faults
from tests.simulation.__main__ import main
from tests.simulation.invariants import Watch
from tests.simulation.loop import Broken, Loop
from tests.simulation.many import outcome
from tests.simulation.world import simulate

ROOT = Path(__file__).resolve().parent.parent.parent
CHUNK = 10
CHUNKS = 50


class Lives:
    """500 lives, in pieces; a class of its own for each 500, so that they run side by side."""

    first = 1

    @pytest.fixture(scope="class")
    @classmethod
    def lives(cls):
        """Those of a piece; each is lived once."""

        @functools.cache
        def lived(chunk):
            first = cls.first + chunk * CHUNK
            return [outcome(seed) for seed in range(first, first + CHUNK)]

        return lived

    @pytest.mark.parametrize("chunk", range(CHUNKS))
    def test_no_seed_breaks_an_invariant(self, lives, chunk):
        assert [life.line for life in lives(chunk) if life.broken] == []

    def test_every_fault_takes_effect(self, lives):
        fired = {
            name
            for chunk in range(CHUNKS)
            for life in lives(chunk)
            for name, times in life.fired.items()
            if times
        }
        assert {fault.fires for fault in faults.ALL} - fired == set()


class TestSeedsTo500(Lives):
    first = 1


class TestSeedsTo1000(Lives):
    first = 501


@pytest.mark.parametrize("seed", range(1, 11))
def test_the_journal_may_be_replayed_from_any_prefix(seed):
    assert simulate(seed, replayed=1.0).broken == ""


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


@pytest.fixture
def broken_after_20_s(monkeypatch):
    def check(self, world):
        if world.loop.now - world.began > 20.0:
            raise Broken("never above max: 6 of 5")

    monkeypatch.setattr(Watch, "check", check)


def test_what_breaks_is_told_in_one_line_that_shows_it_again(broken_after_20_s, capsys):
    assert main(["3", "--events", "5"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    again = f"{sys.executable} -m tests.simulation 3  # never above max: 6 of 5 at t=2"
    assert lines[-1].startswith(again)


def test_many_seeds_tell_how_far_they_are_and_which_broke(capsys):
    assert main(["--seeds", "3:4", "--processes", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("2 seeds, 0 broken, ")
    assert "2 of 2" in err


def test_a_clock_that_stands_still_is_told():
    loop = Loop()

    def waits_for_no_time():
        while True:
            loop.clock.sleep(0.0)

    loop.spawn(loop.process("any"), waits_for_no_time)
    with pytest.raises(Broken, match="time goes on"):
        loop.run(loop.now + 1.0)
    loop.close()
