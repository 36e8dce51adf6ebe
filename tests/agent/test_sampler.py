"""The running mean over 5 s, and what is no sample."""

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.meters import Reading
from agent.metrics.sampler import Sample, Sampler
from labcore.clock import FakeClock
from labcore.wire.metrics import Memory

MEMORY = Memory(100, 60, 40.0)


class ScriptedMeter:
    """A meter that reads what it was told, or fails."""

    def __init__(self, capacity: float = 1.0) -> None:
        self.capacity = capacity
        self.busy_s = 0.0
        self.fails = False

    def read(self) -> Reading:
        if self.fails:
            raise psutil.NoSuchProcess(1)
        return Reading(self.busy_s, MEMORY)


class Bench:
    def __init__(self, capacity: float = 1.0) -> None:
        self.meter = ScriptedMeter(capacity)
        self.clock = FakeClock()
        self.sampler = Sampler(self.meter, self.clock)
        self.sampler.sample()

    def after(self, seconds: float, busy_s: float = 0.0) -> Sample | None:
        self.clock.advance(seconds)
        self.meter.busy_s = busy_s
        self.sampler.sample()
        return self.sampler.latest()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def cpu(sample: Sample | None) -> float:
    assert sample is not None
    return sample.cpu


def seq(sample: Sample | None) -> int:
    assert sample is not None
    return sample.seq


def test_there_is_none_before_time_has_passed(bench: Bench):
    assert bench.sampler.latest() is None
    assert bench.after(0.0) is None
    assert bench.after(0.5, 0.25) == Sample(1, 50.0, MEMORY)


def test_the_mean_is_over_five_seconds(bench: Bench):
    for _ in range(10):
        bench.after(0.5, 0.5)
    assert cpu(bench.sampler.latest()) == 100.0
    falling = [cpu(bench.after(0.5)) for _ in range(10)]
    assert falling == [90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0, 0.0]


def test_a_quarter_of_a_core_can_be_all_there_is():
    assert cpu(Bench(0.25).after(0.5, 0.125)) == 100.0
    assert cpu(Bench(0.25).after(0.5, 0.0625)) == 50.0
    assert cpu(Bench(4.0).after(0.5, 0.5)) == 25.0


def test_every_sample_has_the_next_number(bench: Bench):
    assert [seq(bench.after(0.5)) for _ in range(4)] == [1, 2, 3, 4]


def test_a_meter_that_fails_leaves_the_number_as_it_is(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    bench.after(0.5, 0.5)
    bench.meter.fails = True
    assert bench.after(0.5) == bench.after(0.5) == Sample(1, 100.0, MEMORY)
    assert len(caplog.messages) == 1
    bench.meter.fails = False
    assert bench.after(0.5, 1.5) == Sample(2, 100.0, MEMORY)


def test_time_in_which_the_node_stood_still_is_no_sample(bench: Bench):
    bench.after(0.5, 0.5)
    assert bench.after(60.0, 0.01) == Sample(1, 100.0, MEMORY)
    assert bench.after(0.5, 0.4) == Sample(2, 80.0, MEMORY)


@given(st.lists(st.tuples(st.floats(0.01, 4.9), st.floats(0, 50)), min_size=1, max_size=40))
def test_the_mean_is_a_percentage_and_numbers_only_rise(slices: list[tuple[float, float]]):
    bench = Bench()
    samples = [bench.after(seconds, busy_s) for seconds, busy_s in slices]
    assert all(0.0 <= cpu(sample) <= 100.0 for sample in samples)
    assert [seq(sample) for sample in samples] == list(range(1, len(samples) + 1))


@given(st.floats(0, 1), st.integers(1, 30))
def test_a_steady_load_is_its_own_mean(share: float, count: int):
    bench = Bench()
    for _ in range(count):
        sample = bench.after(0.5, 0.5 * share)
    assert cpu(sample) == pytest.approx(100 * share, abs=0.01)
