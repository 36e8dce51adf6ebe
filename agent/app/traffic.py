"""What waitress is doing now, and a lane of its own for the requests that watch over the app.

An overloaded app has a long queue before its threads. Whoever asks then whether it is healthy, or
whether it is idle, must not wait behind the load, or a busy node looks like a dead one.
"""

from __future__ import annotations

from typing import Any

from labcore.entry import is_busy


class QuickLane:
    """A task dispatcher for waitress: requests for `paths` have a thread to themselves."""

    def __init__(self, paths: frozenset[str], others: Any) -> None:
        from waitress.task import ThreadedTaskDispatcher

        self._paths = paths
        self._others = others
        self._quick = ThreadedTaskDispatcher()
        self._quick.set_thread_count(1)

    def add_task(self, channel: Any) -> None:
        """Called by waitress when the first of a connection's requests has been read whole."""
        lane = self._quick if self.is_quick(channel) else self._others
        lane.add_task(channel)

    def is_quick(self, channel: Any) -> bool:
        """Whether the request that this connection is about is one for `paths`."""
        requests = tuple(channel.requests)
        return bool(requests) and getattr(requests[0], "path", "") in self._paths


class Traffic:
    """What a server is doing; made before its server, as the app that it serves reports it."""

    def __init__(self, quick_paths: frozenset[str]) -> None:
        self._quick_paths = quick_paths
        self._server: Any = None

    def watch(self, server: Any) -> None:
        """Give a waitress server, not yet running, its quick lane, and count its requests."""
        server.task_dispatcher = QuickLane(self._quick_paths, server.task_dispatcher)
        self._server = server

    def in_flight(self) -> int:
        """Connections with a request being read, queued, worked on or answered.

        Waitress's own lists are read, so that there is no gap between two countings in which a
        request could hide. It does not look for a client's end of a connection while it works on
        a request, so work for a client that went away counts too. The quick lane does not.
        """
        lane = self._server.task_dispatcher
        channels = tuple(self._server.active_channels.values())
        return sum(is_busy(channel) and not lane.is_quick(channel) for channel in channels)
