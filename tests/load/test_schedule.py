"""The law of a schedule: the number of sends up to any moment is the integral of the rate."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.codec import decode, encode
from labcore.errors import UsageProblem
from labctl.load.schedule import Schedule, Stage, constant, parse_duration, parse_schedule

rates = st.floats(0, 300, allow_subnormal=False) | st.integers(0, 300).map(float)
durations = st.floats(0.01, 4, allow_subnormal=False) | st.integers(1, 4).map(float)
schedules = st.builds(
    Schedule, st.lists(st.builds(Stage, rates, rates, durations), min_size=1, max_size=4).map(tuple)
)


def integral(schedule: Schedule, until_s: float) -> float:
    total, begun = 0.0, 0.0
    for stage in schedule.stages:
        inside = min(max(until_s - begun, 0.0), stage.seconds)
        total += (stage.begin + stage.rate(inside)) / 2 * inside
        begun += stage.seconds
    return total


@given(schedules, st.floats(0, 1))
def test_sends_up_to_any_moment_are_the_integral_of_the_rate(schedule: Schedule, part: float):
    moment = part * schedule.seconds
    sends = sum(1 for at_s in schedule.send_times() if at_s <= moment)
    assert abs(sends - integral(schedule, moment)) <= 0.5 + 1e-6


@given(schedules)
def test_send_times_are_count_many_in_order_and_inside(schedule: Schedule):
    times = list(schedule.send_times())
    assert len(times) == schedule.count()
    assert all(a <= b for a, b in itertools.pairwise(times))
    assert all(0 <= at_s <= schedule.seconds * (1 + 1e-12) for at_s in times)


@given(schedules)
def test_a_schedule_survives_its_text_and_json(schedule: Schedule):
    if schedule.count():
        assert parse_schedule(str(schedule)) == schedule
    assert decode(Schedule, encode(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("50:30s", 1500, 30),
        ("0:200:30s", 3000, 30),
        ("50:10s,150:20s", 3500, 30),
        ("100:0:2s", 100, 2),
        ("10:500ms, 0:1m ,10:0.5", 10, 61),
        ("0.1:10s", 1, 10),
    ],
)
def test_counts(text: str, count: int, seconds: float):
    schedule = parse_schedule(text)
    assert (schedule.count(), schedule.seconds) == (count, seconds)


def test_a_held_rate_is_even():
    times = list(constant(4, 1).send_times())
    assert times == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_rate_at_a_moment():
    schedule = parse_schedule("0:100:10s,30:5s")
    assert [schedule.rate(t) for t in (-1, 0, 5, 10, 14.9, 15)] == [0, 0, 50, 30, 30, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a stage"),
        ("50", "not a stage"),
        ("1:2:3:4s", "not a stage"),
        ("x:3s", "the rate is not a number"),
        ("nan:3s", "a rate lies between 0 and 100000"),
        ("-1:3s", "a rate lies between"),
        ("5:0s", "lasts more than 0 s"),
        ("5:3h", "'3h' is not a duration"),
        ("0:30s", "sends no request"),
    ],
)
def test_what_is_no_schedule(text: str, words: str):
    with pytest.raises(UsageProblem, match=words):
        parse_schedule(text)


def test_durations():
    assert [parse_duration(t) for t in ("250ms", "30s", "2m", "7", ".5s")] == [
        0.25,
        30,
        120,
        7,
        0.5,
    ]
