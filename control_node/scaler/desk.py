"""What people may ask of the scaler, from any thread: status, decisions, count, mode, reset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from control_node.scaler.hands import Wishes
from labcore.errors import Conflict, NotFound, UsageProblem
from labcore.wire.lab import Mode
from labcore.wire.scaler import Decision, GroupStatus, ScalerStatus


class Desk:
    """The runner keeps `show` up to date; `wake` makes it look again at once, `reset` makes it
    forget the failed boots of a group."""

    def __init__(
        self,
        wishes: Wishes,
        status: ScalerStatus,
        *,
        wake: Callable[[], None],
        reset: Callable[[str], None],
    ) -> None:
        self._wishes = wishes
        self._wake = wake
        self._reset = reset
        self._status = status
        self._decisions: tuple[Decision, ...] = ()

    def show(self, status: ScalerStatus, decisions: Iterable[Decision]) -> None:
        """Replace what is told."""
        self._status = status
        self._decisions = tuple(decisions)

    def status(self) -> ScalerStatus:
        """As of the last step."""
        return self._status

    def decisions(self, group: str | None, limit: int) -> tuple[Decision, ...]:
        """The newest `limit` decisions (of a group), oldest first. Raises UsageProblem."""
        if limit < 1:
            raise UsageProblem(f"limit {limit} is less than 1")
        found = [d for d in self._decisions if group in (None, d.group)]
        return tuple(found[-limit:])

    def scale(self, count: int, group: str | None) -> GroupStatus:
        """Wish for `count` nodes and for mode manual; returns when that is written.

        Raises UsageProblem (not within min..max), NotFound (no such group), Conflict (the lab is
        not known yet), and what the server-manager answers.
        """
        status = self._group(group)
        if not status.min <= count <= status.max:
            limit = "maximum" if count > status.max else "minimum"
            value = status.max if count > status.max else status.min
            raise UsageProblem(
                f"group {status.group!r} cannot have {count} nodes: its {limit} is {value}",
                f"allowed: {status.min} to {status.max}; scaling.{limit[:3]} in the lab file",
            )
        self._wishes.by_person(status.group, count, "manual")
        self._wake()
        return dataclasses.replace(status, mode="manual", desired_count=count)

    def set_mode(self, mode: Mode, group: str | None) -> GroupStatus:
        """Wish for a mode; returns when that is written. Raises as `scale` does."""
        status = self._group(group)
        self._wishes.by_person(status.group, None, mode)
        self._wake()
        return dataclasses.replace(status, mode=mode)

    def reset(self, group: str | None) -> GroupStatus:
        """Make nodes again at once, although many failed to boot. Raises as `scale` does."""
        status = self._group(group)
        self._reset(status.group)
        return dataclasses.replace(status, breaker=None)

    def _group(self, name: str | None) -> GroupStatus:
        groups = self._status.groups
        if not groups:
            raise Conflict("the scaler does not know its lab yet", "ask again in a second")
        known = f"groups: {', '.join(g.group for g in groups)}"
        if name is None and len(groups) > 1:
            raise UsageProblem("several groups are scaled: say which", known)
        found = next((g for g in groups if name in (None, g.group)), None)
        if found is None:
            raise NotFound(f"no scaled group {name!r}", known)
        return found
