"""target, predictive, schedule and manual, case by case."""

import dataclasses
from datetime import UTC, datetime

import pytest

from control_node.policies import Action, check
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling
from tests.policies.builders import Course, group, once

TARGET = Scaling(policy="target", max=10)
PREDICTIVE = Scaling(policy="predictive", max=10)


@pytest.mark.parametrize(
    ("observation", "count"),
    [
        (group(70.0, 4), 4),
        (group(77.0, 4), 4),  # within the tolerance of 0.1
        (group(78.0, 4), 5),  # ceil(4 x 78 / 70) = ceil(4.46)
        (group(100.0, 4), 6),  # ceil(5.71)
        (group(100.0, 9), 10),  # ceil(12.9), but max
        (group(100.0, 4, booting=2), 6),  # 400 / 6 = 66.7: within the tolerance, no change
        (group(35.0, 4, memory=40.0), 2),
        (group(46.0, 4, memory=40.0), 3),  # ceil(2.63)
        (group(35.0, 4, memory=50.0), 3),  # with 2, memory could reach 100 %; with 3, 66.7
    ],
)
def test_target_is_proportional(observation, count):
    assert once(observation, TARGET).count == count


def test_target_shrinks_to_the_most_that_was_asked_for_in_its_window():
    course = Course(TARGET)
    assert course.step(group(100.0, 6, memory=20.0)).count == 9
    held = [course.step(group(20.0, 9, memory=20.0)) for _ in range(30)]
    assert {verdict.action for verdict in held} == {Action.HOLD}
    assert "9 nodes asked for within the last 300 s" in held[0].reasons
    assert held[0].wish == 3
    assert course.step(group(20.0, 9, memory=20.0)).count == 3


def test_predictive_grows_by_all_that_is_needed_at_once():
    verdict = once(group(95.0, 4), PREDICTIVE)
    assert verdict.count == 6  # ceil(3.8 / 0.7 + 0.15) = ceil(5.58)
    assert verdict.reasons == (
        "demand is 3.8 nodes and may be 3.8 in 70 s: at 70 % each that takes 6 nodes",
    )


def test_predictive_assumes_more_demand_where_all_cpu_is_used():
    assert once(group(100.0, 4), PREDICTIVE).count == 9  # ceil(4 x 1.5 / 0.7 + 0.15)


def test_predictive_grows_before_the_load_is_there():
    course = Course(PREDICTIVE)
    loads = [45.0 + step for step in range(20)]
    verdicts = [course.step(group(load, 4)) for load in loads]
    out = [load for load, v in zip(loads, verdicts, strict=True) if v.action is Action.OUT]
    # 4 nodes do up to (4 - 0.15) x 70 / 4 = 67.4 %. It rises by 1 % in 10 s, of which 0.8 are
    # believed, so 5.6 % in 70 s: 62 % is the first load that will be too much.
    assert out[0] == 62.0


def test_predictive_does_not_ask_again_for_what_is_booting():
    assert once(group(95.0, 4, booting=2), PREDICTIVE).action is Action.HOLD


def test_predictive_gives_much_room_back_soon_and_a_little_late():
    """Decided by how long ago the last step outwards was: 120, 600 or 1200 s."""
    at = {}
    for cpu in (40.0, 34.0, 25.0):
        course = Course(PREDICTIVE)
        assert course.step(group(89.0, 3, memory=20.0)).count == 4
        for step in range(1, 200):
            verdict = course.step(group(cpu, 4, memory=20.0))
            if verdict.action is Action.IN:
                at[cpu] = step
                break
    # of 4 nodes: 25 -> 2 left at 50 %; 34 -> 3 left at 45 %; 40 -> 3 left at 53 %
    assert at == {25.0: 13, 34.0: 61, 40.0: 121}


def test_predictive_grows_for_memory_too_unless_that_does_not_help():
    course = Course(PREDICTIVE)
    assert course.step(group(10.0, 2, memory=85.0)).count == 3
    assert course.step(group(10.0, 3, memory=85.0)).action is Action.HOLD


@pytest.mark.parametrize("name", ["target", "predictive"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_percent": 0}, "target_percent: 0 is not within 1..100"),
        ({"target_percent": "high"}, "scaling.options.target_percent: expected float"),
        ({"speed": 1}, "scaling.options: unknown field 'speed'"),
        ({"target_percent": [1]}, "scaling.options.target_percent: expected float"),
    ],
)
def test_options_that_cannot_be_followed(name, options, message):
    with pytest.raises(UsageProblem, match=message):
        check(Scaling(policy=name, options=options))


ROWS = [
    {"from": "09:45", "to": "11:30", "count": 4, "days": ["mon", "wed"]},
    {"from": "11:00", "to": "12:00", "count": 5},
    {"from": "23:00", "to": "01:00", "count": 3, "days": ["sun"]},
]


def timetable(**options: object) -> Scaling:
    return Scaling(policy="schedule", options={"rows": ROWS, **options})


@pytest.mark.parametrize(
    ("at", "count"),
    [  # 2026-03-02 is a Monday
        (datetime(2026, 3, 2, 9, 44, tzinfo=UTC), 2),
        (datetime(2026, 3, 2, 9, 45, tzinfo=UTC), 4),
        (datetime(2026, 3, 2, 11, 0, tzinfo=UTC), 5),  # rows overlap: the larger
        (datetime(2026, 3, 2, 12, 0, tzinfo=UTC), 2),
        (datetime(2026, 3, 3, 10, 0, tzinfo=UTC), 2),  # a Tuesday
        (datetime(2026, 3, 1, 23, 30, tzinfo=UTC), 3),  # over midnight, from Sunday
        (datetime(2026, 3, 2, 0, 59, tzinfo=UTC), 3),
        (datetime(2026, 3, 2, 1, 0, tzinfo=UTC), 2),
        (datetime(2026, 3, 3, 0, 30, tzinfo=UTC), 2),
    ],
)
def test_schedule_follows_the_clock(at, count):
    desired = 3 if count != 3 else 4
    observation = dataclasses.replace(group(50.0, desired, memory=20.0), at=at)
    assert once(observation, timetable()).count == count


def test_schedule_in_its_own_zone_and_outside_of_it():
    at = datetime(2026, 7, 6, 7, 45, tzinfo=UTC)  # 09:45 in Berlin
    observation = dataclasses.replace(group(50.0), at=at)
    verdict = once(observation, timetable(timezone="Europe/Berlin"))
    assert verdict.reasons == ("mon 09:45 (Europe/Berlin) is within 09:45-11:30: 4 nodes",)
    assert once(observation, timetable(otherwise=5)).count == 5


def test_schedule_without_a_clock_does_nothing():
    assert once(group(50.0), timetable()).reasons == ("the time of day is not known",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "field 'rows' is missing"),
        ({"rows": [{"from": "9:45", "to": "11:00", "count": 3}]}, r"rows\[0\].from: '9:45'"),
        ({"rows": [{"from": "09:45", "to": 660, "count": 3}]}, r"rows\[0\].to: 660"),
        ({"rows": [{"from": "09:45", "to": "24:00", "count": 3}]}, r"rows\[0\].to: '24:00'"),
        ({"rows": [{"from": "09:45", "to": "11:00"}]}, r"rows\[0\].count: expected"),
        ({"rows": [{"from": "09:45", "to": "11:00", "count": 9}]}, r"9 nodes are not within 2..5"),
        ({"rows": [], "otherwise": 1}, r"1 nodes are not within 2..5"),
        ({"rows": [{"till": "11:00"}]}, r"rows\[0\]: unknown field 'till'"),
        (
            {"rows": [{"from": "09:45", "to": "11:00", "count": 3, "days": ["Monday"]}]},
            r"rows\[0\].days: \['Monday'\]",
        ),
        ({"rows": [], "timezone": "Mars/Base"}, "timezone: 'Mars/Base'"),
    ],
)
def test_timetables_that_cannot_be_followed(options, message):
    with pytest.raises(UsageProblem, match=message):
        check(Scaling(policy="schedule", options=options))


def test_manual_holds_and_brings_back_inside():
    manual = Scaling(policy="manual")
    assert once(group(100.0), manual).reasons == ("policy manual: only people change the count",)
    assert once(group(100.0, 7), manual).count == 5
