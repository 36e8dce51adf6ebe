"""Many who ask the same at once are answered by one look, which began after each of them asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from labcore.clock import Clock
from labcore.errors import LabError

T = TypeVar("T")


class Shared(Generic[T]):
    """Nothing is kept from one look to the next: who asks while one goes on, waits for another.

    Two looks begin at least `rest_s` apart, so that thirty who wait for thirty servers do not keep
    the machine from booting them.
    """

    def __init__(self, look: Callable[[], T], *, clock: Clock, rest_s: float = 0.0) -> None:
        self._look = look
        self._clock = clock
        self._rest_s = rest_s
        self._changed = threading.Condition()
        self._begun = 0  # looks
        self._is_on = False
        self._began_at = float("-inf")
        self._ended = 0  # the newest look that ended, and what came of it
        self._found: tuple[T | None, LabError | None] = (None, None)

    def ask(self) -> T:
        """What a look found that began after this call; raises what that look raised."""
        with self._changed:
            mine = self._begun + 1
            while self._is_on and self._ended < mine:
                self._changed.wait()
            if self._ended >= mine:
                return self._answer()
            self._is_on = True
        return self._ask_for_all()

    def _ask_for_all(self) -> T:
        found: tuple[T | None, LabError | None] = (None, LabError("the look was cut short"))
        try:
            pause = self._began_at + self._rest_s - self._clock.monotonic()
            if pause > 0:
                self._clock.sleep(pause)
            with self._changed:
                self._begun += 1
                self._began_at = self._clock.monotonic()
            try:
                found = (self._look(), None)
            except LabError as error:
                found = (None, error)
        finally:
            with self._changed:
                self._is_on = False
                self._ended, self._found = self._begun, found
                self._changed.notify_all()
        return self._answer_of(found)

    def _answer(self) -> T:
        return self._answer_of(self._found)

    def _answer_of(self, found: tuple[T | None, LabError | None]) -> T:
        value, problem = found
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # there is one where there is no problem
