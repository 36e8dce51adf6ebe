"""A thousand lives of a lab, with everything that may go wrong in them."""

from tests.simulation.many import broken_ones
from tests.simulation.world import simulate

SEEDS = 60


def test_no_seed_breaks_an_invariant():
    assert [outcome.line for outcome in broken_ones(1, SEEDS, 2)] == []


def test_a_seed_is_the_whole_story():
    assert simulate(7).digest == simulate(7).digest != simulate(8).digest
