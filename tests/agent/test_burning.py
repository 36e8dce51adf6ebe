"""Burning CPU time in turns."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.app.burning import Cores


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05])
def test_burns_what_was_asked_for(seconds: float):
    before = time.thread_time()
    Cores(1).burn(seconds)
    assert seconds <= time.thread_time() - before <= seconds + 0.02


def test_a_short_one_does_not_wait_for_a_long_one_to_end():
    cores = Cores(1)
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(cores.burn, 1.0)
        pool.submit(cores.burn, 0.01).result()
        assert not long.done()


class Counting(Cores):
    """Counts who burns at the same time."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.now = self.most = 0
        self.lock = threading.Lock()

    def _enter(self) -> None:
        super()._enter()
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def _leave(self) -> None:
        with self.lock:
            self.now -= 1
        super()._leave()


@settings(max_examples=20)
@given(st.integers(1, 3), st.lists(st.floats(0, 0.012), max_size=6))
def test_never_more_than_there_are_cores_and_everybody_ends(count: int, loads: list[float]):
    cores = Counting(count)
    with ThreadPoolExecutor(6) as pool:
        for burning in [pool.submit(cores.burn, load) for load in loads]:
            burning.result(30)
    assert cores.most <= count
    assert cores.now == 0
    cores.burn(0.001)
