"""The write-ahead journal: an operation on a server is written down before a driver is called.

begun ──▶ done
  └─────▶ failed      begun and nothing else: the process died in between
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from labcore.clock import Clock, rfc3339
from server_manager.database import Database

KEPT = 5_000

Operation = Literal[
    "create", "start", "stop", "kill", "destroy", "pause", "resume", "adopt", "release"
]
Outcome = Literal["begun", "done", "failed"]


@dataclass(frozen=True)
class Entry:
    """One operation on one server, and how far it is known to have come."""

    seq: int
    at: str
    lab: str
    node: str
    operation: str
    state: Outcome
    error: str | None = None


def unfinished(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The last entry of each server, where that one was begun and never ended. Pure.

    Operations on one server never overlap, so an earlier one that stands at `begun` was overtaken:
    a later one has settled what the server became.
    """
    last = {(entry.lab, entry.node): entry for entry in sorted(entries, key=lambda e: e.seq)}
    return tuple(entry for entry in last.values() if entry.state == "begun")


class Journal:
    """The journal of all labs in the database; the newest entries are kept."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, lab: str, node: str, operation: Operation) -> int:
        """Write down what is about to be done; the number to end it with."""
        with self._database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO journal (at, lab, node, operation, state)"
                " VALUES (?, ?, ?, ?, 'begun')",
                (rfc3339(self._clock.now()), lab, node, operation),
            )
            seq = added.lastrowid or 0
            connection.execute(
                "DELETE FROM journal WHERE seq <= ? AND state != 'begun'", (seq - KEPT,)
            )
        return seq

    def end(self, seq: int, error: str | None = None) -> None:
        """Write down that it was done, or why it failed."""
        state = "failed" if error else "done"
        self._database.rows("UPDATE journal SET state=?, error=? WHERE seq=?", state, error, seq)

    def entries(self, lab: str | None = None) -> tuple[Entry, ...]:
        """What is kept of one lab (None: of all), oldest first."""
        rows = self._database.rows(
            "SELECT * FROM journal WHERE lab = coalesce(?, lab) ORDER BY seq", lab
        )
        return tuple(Entry(**dict(row)) for row in rows)

    def forget(self, lab: str) -> None:
        """Drop the entries of a lab that is gone."""
        self._database.rows("DELETE FROM journal WHERE lab = ?", lab)
