"""When the server-manager may end by itself: it was started on demand, and nobody demands more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from labcore.web import WsgiApp
from server_manager.core import Core
from server_manager.images.images import Images
from server_manager.runs import Runs

QUIET_S = 2.0  # after the last lab is gone, so that followers learn how it ended
LONGEST_QUIET_S = 10.0  # a follower that never stops asking does not keep it alive
UNUSED_S = 600.0  # with no lab ever made


class Idle:
    """Watches requests and labs."""

    def __init__(self, core: Core, runs: Runs, images: Images) -> None:
        self._core = core
        self._runs = runs
        self._images = images
        self._lock = threading.Lock()
        self._asked = core.clock.monotonic()
        self._emptied: float | None = None
        self._had_labs = core.labs.count() > 0

    def watch(self, app: WsgiApp) -> WsgiApp:
        """The app, with each request noted when it ends."""

        def watched(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            try:
                return app(environ, start)
            finally:
                with self._lock:
                    self._asked = self._core.clock.monotonic()

        return watched

    def is_over(self) -> bool:
        """Whether it may end now."""
        now = self._core.clock.monotonic()
        if self._core.labs.count() or not self._runs.none_is_on():
            self._had_labs, self._emptied = True, None
            return False
        if not self._images.none_is_built():
            self._emptied = None
            return False
        if self._emptied is None:
            self._emptied = now
        quiet = now - max(self._asked, self._emptied)
        if not self._had_labs:
            return quiet > UNUSED_S
        return quiet > QUIET_S or now - self._emptied > LONGEST_QUIET_S
