"""Where a process may die, and how it comes to that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.loop import Killed


@dataclass
class _Death:
    where: str | None
    left: int


class Crossings:
    """The places of one process that it crosses again and again, and where it may die.

    `kill` is to end it. `fired` counts where it died.
    """

    def __init__(self, process: str, kill: Callable[[str], None], fired: Counter[str]) -> None:
        self._process = process
        self._kill = kill
        self._fired = fired
        self._planned: _Death | None = None

    def plan(self, where: str | None, left: int = 1) -> None:
        """Let it die the `left`-th time that it crosses `where` (None: any place) from now on."""
        self._planned = _Death(where, left)

    def forget(self) -> None:
        """Let it live."""
        self._planned = None

    def cross(self, where: str) -> None:
        """Of its tasks: it is there now. Raises Killed if it dies of that."""
        death = self._planned
        if death is None or death.where not in (None, where):
            return
        death.left -= 1
        if death.left > 0:
            return
        self._planned = None
        self._fired[f"{self._process} dies {where}"] += 1
        self._kill(where)
        raise Killed
