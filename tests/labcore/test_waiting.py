"""Waits end by their condition, by a known failure, or by their limit, on the given clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.clock import FakeClock
from labcore.errors import Conflict, DriverFailed, TimedOut
from labcore.waiting import NotYet, retry_call, wait_until


def test_returns_what_the_probe_returns_once_it_is_there():
    clock = FakeClock()
    began = clock.monotonic()

    def probe():
        if clock.monotonic() - began < 3:
            raise NotYet("port closed")
        return "banner"

    assert wait_until(probe, name="ssh of agent-1", limit_s=10, clock=clock) == "banner"
    assert 3 <= clock.monotonic() - began < 4.5


def test_times_out_with_name_limit_hint_and_last_evidence():
    clock = FakeClock()
    began = clock.monotonic()

    def probe():
        raise NotYet(f"refused at {clock.monotonic() - began:.0f} s")

    with pytest.raises(TimedOut) as caught:
        wait_until(probe, name="ssh of agent-1", limit_s=5, clock=clock, hint="see the console")
    assert caught.value.message == "ssh of agent-1: not within 5 s; last seen: refused at 5 s"
    assert caught.value.hint == "see the console"
    assert clock.monotonic() - began == pytest.approx(5)


def test_a_wait_may_take_thousands_of_attempts():
    clock = FakeClock()

    def probe():
        raise NotYet

    with pytest.raises(TimedOut):
        wait_until(probe, name="the end", limit_s=1000.0, clock=clock, interval_s=0.01)


@given(start=st.floats(0.0, 1e6), limit_s=st.floats(0.0, 100.0))
def test_a_wait_ends_however_its_times_are_rounded(start, limit_s):
    clock = FakeClock(start)
    probes = 0

    def probe():
        nonlocal probes
        probes += 1
        assert probes < 1000, f"the clock stands still at {clock.monotonic()!r}"
        raise NotYet

    with pytest.raises(TimedOut):
        wait_until(probe, name="the end", limit_s=limit_s, clock=clock)


def test_a_known_failure_ends_the_wait_at_once():
    clock = FakeClock()

    def probe():
        raise DriverFailed("the VM died")

    with pytest.raises(DriverFailed, match="the VM died"):
        wait_until(probe, name="boot", limit_s=60, clock=clock)
    assert clock.monotonic() == FakeClock().monotonic()


def test_the_probe_is_called_once_even_without_time():
    assert wait_until(lambda: 1, name="x", limit_s=0, clock=FakeClock()) == 1


def test_retry_repeats_only_what_passes_by_itself():
    calls = []

    def locked():
        calls.append(1)
        if len(calls) < 3:
            raise Conflict("session lock")
        return "done"

    def is_lock(error):
        return "lock" in error.message

    assert retry_call(locked, retry_on=is_lock, attempts=5, clock=FakeClock()) == "done"
    assert len(calls) == 3


@pytest.mark.parametrize(("text", "tries"), [("session lock", 4), ("no such VM", 1)])
def test_retry_gives_the_last_error_back(text, tries):
    calls = []

    def failing():
        calls.append(1)
        raise Conflict(text)

    with pytest.raises(Conflict, match=text):
        retry_call(failing, retry_on=lambda e: "lock" in e.message, attempts=4, clock=FakeClock())
    assert len(calls) == tries
