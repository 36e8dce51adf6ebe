"""Keeps tunnels running for the forwarder: each a program that listens for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from labcore import commands
from labcore.errors import LabError

# A node that boots refuses for a while; a member that is away, for long.
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 3.0
LASTED_S = 10.0  # one that ran so long was no failure: it is begun again at once
_TAKEN = "cannot listen to port"  # ssh, of a local port; all else may pass by itself


@dataclass(frozen=True)
class Tunnel:
    """A program that listens at some addresses of this machine for as long as it runs, and ends
    when its standard input does."""

    argv: tuple[str, ...]
    listens: tuple[str, ...]  # as `address:port`


class Carriers:
    """Those of one forwarder, in its event loop. Their standard input is a pipe from us, so that
    none outlives us. `changed` is called when `problems` has."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.problems: dict[str, str] = {}  # by the address at which one cannot listen
        self._changed = changed
        self._tasks: dict[Tunnel, asyncio.Task[None]] = {}

    async def follow(self, tunnels: Iterable[Tunnel]) -> None:
        """Run these and no others. Returns when the others have ended."""
        wanted = set(tunnels)
        ending = [self._tasks.pop(t) for t in [t for t in self._tasks if t not in wanted]]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for tunnel in wanted - self._tasks.keys():
            self._tasks[tunnel] = asyncio.create_task(self._keep(tunnel))

    async def _keep(self, tunnel: Tunnel) -> None:
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        try:
            while True:
                began = loop.time()
                self._note(tunnel, await _said(tunnel))
                if loop.time() - began >= LASTED_S:
                    pause_s = FIRST_PAUSE_S
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2.0, LONGEST_PAUSE_S)
        finally:
            self._note(tunnel, "")

    def _note(self, tunnel: Tunnel, said: str) -> None:
        lines = [line.strip() for line in said.splitlines() if _TAKEN in line]
        found = dict.fromkeys(tunnel.listens, lines[0]) if lines else {}
        others = {k: v for k, v in self.problems.items() if k not in tunnel.listens}
        if (problems := {**others, **found}) != self.problems:
            self.problems = problems
            self._changed()


async def _said(tunnel: Tunnel) -> str:
    """Run it until it ends: what it said then."""
    try:
        return await commands.accompany(tunnel.argv)
    except LabError as error:
        return error.message
