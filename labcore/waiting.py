"""The one way to wait for something: a name, a limit, a hint, the last evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from labcore.clock import Clock
from labcore.errors import LabError, TimedOut

T = TypeVar("T")


class NotYet(Exception):
    """Raised by a probe: not there yet. Its text becomes the evidence when the wait times out."""


def wait_until(
    probe: Callable[[], T],
    *,
    name: str,
    limit_s: float,
    clock: Clock,
    hint: str = "",
    interval_s: float = 0.05,
) -> T:
    """Call `probe` until it returns instead of raising NotYet; give back what it returned.

    The pause between two calls grows by half, from `interval_s` to 20 times that. A LabError
    from the probe ends the wait at once (something is known to be wrong). Raises TimedOut with the
    last evidence after `limit_s` seconds on `clock`; the probe is called at least once.
    """
    # One sum that both compare with: (started + limit_s) - started may be less than limit_s, and
    # then a clock that only sleeping moves would stand still just before the end.
    ends = clock.monotonic() + limit_s

    def over(state: tenacity.RetryCallState) -> bool:
        return clock.monotonic() >= ends

    def pause(state: tenacity.RetryCallState) -> float:
        # The exponent is bounded too: 1.5 ** 1751 is more than a float holds.
        grown = interval_s * min(1.5 ** min(state.attempt_number - 1, 8), 20.0)
        return max(0.0, min(grown, ends - clock.monotonic()))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(NotYet), stop=over, wait=pause, sleep=clock.sleep
    )
    try:
        return retrying(probe)
    except tenacity.RetryError as ended:
        evidence = ended.last_attempt.exception()
        shown = f"; last seen: {evidence}" if str(evidence) else ""
        raise TimedOut(f"{name}: not within {limit_s:g} s{shown}", hint) from evidence


def retry_call(
    call: Callable[[], T],
    *,
    retry_on: Callable[[LabError], bool],
    attempts: int,
    clock: Clock,
    pause_s: float = 0.1,
) -> T:
    """Call up to `attempts` times while `retry_on(error)` is true; the last error is raised.

    The pause doubles from `pause_s`. For errors known to pass by themselves, and no others.
    """

    def passing(error: BaseException) -> bool:
        return isinstance(error, LabError) and retry_on(error)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(passing),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=pause_s, max=2.0),
        sleep=clock.sleep,
        reraise=True,
    )(call)
