"""Many ask the same thing at once: one call answers all who asked before it began."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from labcore.errors import LabError

T = TypeVar("T")


class Together(Generic[T]):
    """At most one call at a time, and nobody gets an answer older than his question."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._is_running = False
        self._outcome: T | LabError | None = None

    def ask(self, call: Callable[[], T]) -> T:
        """What a call that began after now gives or raises; it may be somebody else's."""
        with self._turn:
            wanted = self._begun + 1
            self._turn.wait_for(lambda: self._ended >= wanted or not self._is_running)
            if self._ended >= wanted and self._outcome is not None:
                return self._given(self._outcome)
            self._is_running = True
            self._begun += 1
        outcome: T | LabError | None = None
        try:
            outcome = call()
        except LabError as error:
            outcome = error
        finally:
            with self._turn:
                self._outcome, self._ended, self._is_running = outcome, self._begun, False
                self._turn.notify_all()
        return self._given(outcome)

    def _given(self, outcome: T | LabError) -> T:
        if isinstance(outcome, LabError):
            raise outcome
        return outcome
