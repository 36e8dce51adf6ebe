"""Burning CPU time, in turns, without taking the interpreter or the laptop away from others."""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator

SLICE_S = 0.005
# A checksum of so much takes about 0.1 ms, in C and without the interpreter lock: a thread that
# burns in Python makes every other thread wait for that lock, also those that answer `/health`.
_BLOCK = bytes(256 * 1024)


class Cores:
    """So many threads may burn at the same time; the others take turns, first come first served.

    Without it 32 busy threads on each of five agents are 160 at once for the laptop's scheduler,
    and everything else on it, the scaler among them, stands in that queue.
    """

    def __init__(self, count: int) -> None:
        self._free = count  # while it is above 0, nobody waits
        self._waiting: deque[threading.Lock] = deque()
        self._mutex = threading.Lock()

    def burn(self, seconds: float) -> None:
        """Use `seconds` of CPU time of the calling thread, in slices; waiting does not count."""
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            with self._turn():
                _spin(min(until, time.thread_time() + SLICE_S))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._mutex:
            if self._free > 0:
                self._free -= 1
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        called.acquire()

    def _leave(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()  # its turn goes over, it is never free between
            else:
                self._free += 1


def _spin(until: float) -> None:
    while time.thread_time() < until:
        zlib.crc32(_BLOCK)
