"""Whether the node drains: remembered over a restart of this service, not of the node."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from labcore import files

# Two reckonings of when the node began may differ by this much, as the time of day is adjusted.
SAME_BOOT_S = 2.0

log = logging.getLogger(__name__)


class DrainState:
    """The flag and its file. A node that was powered off and on again does not drain any more.

    `began_at` says which life of the node this is: when it was booted, in seconds of the epoch.
    """

    def __init__(self, path: Path, began_at: float) -> None:
        self._path = path
        self._began_at = began_at
        self._lock = threading.Lock()
        self._draining = self._read()

    @property
    def draining(self) -> bool:
        """Whether it drains."""
        return self._draining

    def set(self, draining: bool) -> None:
        """Say whether it drains; on disk when this returns. The same again: nothing."""
        with self._lock:
            if draining != self._draining:
                saved = {"draining": draining, "began_at": self._began_at}
                files.write_json(self._path, saved)
                self._draining = draining

    def _read(self) -> bool:
        try:
            saved = files.read_json(self._path)
        except ValueError as error:
            log.warning("%s is not ours, so the node is active: %s", self._path, error)
            return False
        if not isinstance(saved, Mapping) or saved.get("draining") is not True:
            return False
        began_at = saved.get("began_at")
        return isinstance(began_at, float) and abs(began_at - self._began_at) <= SAME_BOOT_S
