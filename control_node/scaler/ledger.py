"""Operations under way, or done too recently to show in what is seen; and when to try again."""

from __future__ import annotations

from dataclasses import dataclass

from control_node.scaler.breaker import Boots
from control_node.scaler.types import Done, Operation, Power, SetCount, Submit, TellDrain, View

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# A routing is offered again that often while nginx is not seen to follow it.
LONGEST_ROUTE_PAUSE_S = 2.0

BOOTING = ("on", "standby")

Key = tuple[str, str]


def key_of(operation: Operation) -> Key:
    """What an operation is about: at most one of a key is open at a time."""
    if isinstance(operation, Power):
        return ("power", operation.node)
    if isinstance(operation, TellDrain):
        return ("drain", operation.node)
    if isinstance(operation, SetCount):
        return ("count", operation.group)
    return ("route", "")


@dataclass
class _Entry:
    operation: Operation
    ended: float | None = None


@dataclass
class _Backoff:
    failures: int
    until: float


class Ledger:
    """Remembers what the controller asked for until the world can be seen to show it.

    A view may have been taken before an operation ended (stale state is the commonest cause of
    doing a thing twice: Sieve, OSDI 2022), so an entry stays open until a question that was asked
    after its end was answered. After a restart the ledger is empty: every operation is idempotent.
    """

    def __init__(self) -> None:
        self._open: dict[Key, _Entry] = {}
        self._backoff: dict[Key, _Backoff] = {}
        self._boots: dict[str, Boots] = {}

    def boots(self, group: str) -> Boots:
        """The boots of a group."""
        return self._boots.setdefault(group, Boots())

    def begin(self, operation: Operation) -> Operation:
        """Note that `operation` is being carried out; gives it back."""
        if isinstance(operation, Power) and operation.to in BOOTING:
            self.boots(operation.group).begin(operation.node)
        self._open[key_of(operation)] = _Entry(operation)
        return operation

    def take_in(self, view: View, now: float) -> None:
        """Note which operations ended, and forget those that the view shows."""
        for done in view.done:
            self._end(done, now)
        for key, entry in list(self._open.items()):
            if entry.ended is not None and _shown_since(key, view) > entry.ended:
                del self._open[key]

    def _end(self, done: Done, now: float) -> None:
        key = key_of(done.operation)
        entry = self._open.get(key)
        if entry is None or entry.operation != done.operation:
            return
        failed = done.problem is not None
        is_over = failed and not isinstance(done.operation, Power)
        if is_over or isinstance(done.operation, TellDrain):
            del self._open[key]  # an agent's next sample tells whether it obeyed
        else:
            # A power operation that failed may have been done, or may yet be: the answer was lost,
            # or the driver hung. Only what is seen afterwards tells.
            entry.ended = done.ended
        if failed or not isinstance(done.operation, SetCount):
            # Also after a success, for only what is seen next tells whether it helped: a server
            # that stops as often as it is started is started ever more seldom.
            self._pause(done.operation, now)

    def _pause(self, operation: Operation, now: float) -> None:
        key = _attempt_of(operation)
        failures = self._backoff[key].failures + 1 if key in self._backoff else 1
        longest = LONGEST_ROUTE_PAUSE_S if isinstance(operation, Submit) else LONGEST_PAUSE_S
        wait = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), longest)
        self._backoff[key] = _Backoff(failures, now + wait)

    def forgive(self, operation: Operation) -> None:
        """Forget how often this was tried: it helped, or is another thing now."""
        self._backoff.pop(_attempt_of(operation), None)

    def reset(self, group: str) -> None:
        """Forget how often nodes failed to boot, so that they may be turned on again at once."""
        self._boots.pop(group, None)
        kinds = {f"power {to}" for to in BOOTING}
        self._backoff = {key: b for key, b in self._backoff.items() if key[0] not in kinds}

    def may(self, operation: Operation, now: float) -> bool:
        """Whether it may begin now: nothing of its key is open, the last attempt is 1, 2, 4, ...
        seconds ago (at most a minute; routings 2 s), and no breaker holds it."""
        if isinstance(operation, Power) and self._is_held(operation, now):
            return False
        backoff = self._backoff.get(_attempt_of(operation))
        return key_of(operation) not in self._open and (backoff is None or now >= backoff.until)

    def _is_held(self, power: Power, now: float) -> bool:
        return power.to in BOOTING and not self.boots(power.group).may(power.node, now)

    def power(self, node: str) -> Power | None:
        """The open power operation of a node."""
        entry = self._open.get(("power", node))
        return entry.operation if entry and isinstance(entry.operation, Power) else None

    def powers(self, group: str) -> tuple[Power, ...]:
        """The open power operations of a group."""
        found = (entry.operation for entry in self._open.values())
        return tuple(p for p in found if isinstance(p, Power) and p.group == group)

    def count(self, group: str) -> int | None:
        """The desired count that is being written, if one is."""
        entry = self._open.get(("count", group))
        return entry.operation.count if entry and isinstance(entry.operation, SetCount) else None

    @property
    def routing(self) -> bool:
        """Whether a routing is on its way to the balancer."""
        return ("route", "") in self._open

    @property
    def busy(self) -> bool:
        """Whether anything is open."""
        return bool(self._open)


def _attempt_of(operation: Operation) -> Key:
    kind, about = key_of(operation)
    if isinstance(operation, Power):
        return (f"{kind} {operation.to}", about)
    if isinstance(operation, TellDrain):
        return (f"{kind} {operation.draining}", about)
    return (kind, about)


def _shown_since(key: Key, view: View) -> float:
    return view.balancer_asked if key[0] == "route" else view.lab_asked
