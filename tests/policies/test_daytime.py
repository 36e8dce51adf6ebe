"""What is learnt of the times of day, day by day."""

from datetime import UTC, datetime, timedelta

import pytest

from control_node.policies import Daytime
from control_node.policies.daytime import FADE, MOST, SLOTS, UNKNOWN, expected, note, slot_of, turn

AT = datetime(2026, 3, 2, 15, 57, tzinfo=UTC)
SLOT = SLOTS.index("15:50")
TOMORROW = AT + timedelta(days=1)


def test_slots():
    assert slot_of(AT) == SLOT
    assert slot_of(None) is None
    assert (len(SLOTS), SLOTS[0], SLOTS[-1]) == (144, "00:00", "23:50")


def test_the_largest_growth_of_a_day_counts_from_the_next_day_on():
    learnt = turn(Daytime(), AT)
    for share in (0.3, 0.5, 0.1):
        learnt = turn(note(learnt, SLOT, share), AT)
    assert expected(learnt, SLOT) == (UNKNOWN, "")
    assert expected(turn(learnt, TOMORROW), SLOT) == (0.5, "15:50")


def test_what_was_learnt_fades_and_what_a_day_did_not_have_stays():
    learnt = note(note(turn(Daytime(), AT), SLOT, 0.5), SLOT + 6, 0.4)
    for day in range(1, 3):
        learnt = note(turn(learnt, AT + timedelta(days=day)), SLOT, -0.2)
    learnt = turn(learnt, AT + timedelta(days=3))
    assert expected(learnt, SLOT).share == pytest.approx(0.5 * FADE**2)
    assert expected(learnt, SLOT + 6).share == 0.4


def test_the_worst_of_the_slots_to_come_over_midnight():
    learnt = turn(note(note(Daytime(), 0, 0.9), 143, 0.25), TOMORROW)
    assert expected(learnt, 143).slot == "23:50"
    assert expected(learnt, 143, 2) == (0.9, "00:00")
    assert expected(learnt, None, 2) == (UNKNOWN, "")


def test_an_accident_is_limited_and_a_fall_is_none():
    learnt = note(note(Daytime(), SLOT, 7.0), SLOT + 1, -0.5)
    assert learnt.today == {"15:50": MOST, "16:00": 0.0}


def test_what_changes_nothing_is_the_same_object():
    learnt = note(turn(Daytime(), AT), SLOT, 0.5)
    assert note(turn(learnt, AT), SLOT, 0.4) is learnt
