"""target, predictive, schedule and manual, case by case."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from control_node.policies import Action, Verdict, check
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
    assert verdict.count == 7  # ceil(3.8 x (1 + 0.55 x 0.2) / 0.7 + 0.08) = ceil(6.1)
    assert verdict.reasons == (
        "demand is 3.8 nodes, 4.2 if it grows a little while a node boots: at 70 % each that takes "
        "7 nodes",
    )


def test_predictive_assumes_more_demand_where_all_cpu_is_used():
    assert once(group(100.0, 3), PREDICTIVE).count == 8  # ceil(3 x 1.5 x 1.11 / 0.7 + 0.08)


def test_predictive_does_not_ask_again_for_what_is_booting():
    assert once(group(95.0, 4, booting=2), PREDICTIVE).count == 7
    assert once(group(95.0, 4, booting=3), PREDICTIVE).action is Action.HOLD


def test_predictive_follows_a_rise_without_lag():
    course = Course(PREDICTIVE)
    for load in range(30, 44, 2):
        verdict = course.step(group(float(load), 4))
    assert verdict.reasons[0].startswith("demand is 1.7 nodes")  # 4 x 42 %, not the mean's 36 %


@pytest.mark.parametrize(("cpu", "action"), [(32.0, Action.IN), (34.0, Action.HOLD)])
def test_predictive_gives_back_where_much_more_would_fit(cpu, action):
    """One of 4 leaves if 4 x cpu x (1 + 0.11 + 0.45) / 70 + 0.08 <= 3: up to 32.8 %."""
    verdict = once(group(cpu, 4, memory=20.0), PREDICTIVE)
    assert verdict.action is action
    if action is Action.IN:
        assert verdict.reasons[1] == "3 nodes would do for 45 % more than that"


class Days:
    """A group of 10 per cent at 4 nodes, but for one minute in which it doubles, each day."""

    def __init__(self) -> None:
        self.course = Course(PREDICTIVE)
        self.at = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)

    def day(self, cpu: float = 20.0, rises_at: int | None = 50) -> list[Verdict]:
        """From 15:30 to 16:30; the verdicts, ten seconds apart."""
        verdicts = []
        for second in range(0, 3600, 10):
            minute = 30 + second // 60
            load = cpu * (2.0 if minute == rises_at else 1.0)
            at = self.at + timedelta(seconds=second)
            verdicts.append(
                self.course.step(dataclasses.replace(group(load, 4, memory=20.0), at=at))
            )
        self.at += timedelta(days=1)
        self.course.now += 23 * 3600
        return verdicts


def at_time(verdicts: list[Verdict], minute: int) -> Verdict:
    return verdicts[(minute - 30) * 6]


def test_predictive_expects_at_a_time_of_day_what_earlier_days_had_there():
    days = Days()
    first = days.day()
    assert at_time(first, 49).reasons[0].startswith("demand is 0.8 nodes, 0.9 if it grows a little")
    second = days.day()
    assert (
        at_time(second, 41)
        .reasons[0]
        .startswith(
            "demand is 0.8 nodes, 1.2 if it grows as on earlier days at 15:40 while a node boots"
        )
    )
    assert "0.9 if it grows as on earlier days at 15:30" in at_time(second, 35).reasons[0]


def test_predictive_keeps_nodes_for_a_growth_that_comes_within_half_an_hour():
    days = Days()
    days.day()
    kept = days.day(cpu=30.0, rises_at=None)
    assert at_time(kept, 31).action is Action.HOLD  # 15:50 is expected to need them
    assert at_time(kept, 85).action is Action.IN  # 30 % would do with 3


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
