"""What happened, in order: written by the server-manager and the scalers, followed by labctl."""

from __future__ import annotations

import json
from collections.abc import Mapping

from labcore.clock import Clock, rfc3339
from labcore.errors import LabError, TimedOut
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event, EventKind
from server_manager.database import Database

KEPT_PER_LAB = 20_000
PRUNED_EVERY = 500
POLL_S = 0.005  # at first; 0.1 s in the end
ALL = ""  # stands for all labs where the newest event is looked up: no lab has this name


class EventLog:
    """The events of all labs. `seq` rises for ever; of each lab the newest ones are kept."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._closed = False
        # The newest seq of each lab, so that a waiting reader asks no database.
        rows = database.rows("SELECT lab, max(seq) AS seq FROM events GROUP BY lab")
        self._newest: dict[str, int] = {row["lab"]: row["seq"] for row in rows}
        self._newest[ALL] = max(self._newest.values(), default=0)

    def publish(
        self,
        lab: str,
        kind: EventKind,
        message: str,
        *,
        node: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> int:
        """Add an event that happens now; its seq."""
        return self.add(Event(0, rfc3339(self._clock.now()), lab, kind, message, node, data or {}))

    def publish_gate(self, lab: str, node: str, gate: str, seconds: float) -> None:
        """Add that a node passed a gate, `seconds` after it was begun."""
        self.publish(
            lab,
            EventKind.GATE,
            f"{node}: {gate} after {seconds:.1f} s",
            node=node,
            data={"gate": gate, "seconds": round(seconds, 3)},
        )

    def publish_problem(self, error: LabError, lab: str, node: str | None = None) -> None:
        """Add an error that nobody waits for, or not only the one who waits."""
        data = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "details": list(error.details),
        }
        self.publish(lab, EventKind.PROBLEM, error.message, node=node, data=data)

    def begin_run(self, lab: str, message: str, desired: str) -> int:
        """Add the event of a wish, whose own seq is the number of the run that it begins."""
        with self._database.transaction() as connection:
            run = self.publish(lab, EventKind.LAB, message)
            data = {"run": run, "state": "converging", "desired": desired}
            connection.execute("UPDATE events SET data = ? WHERE seq = ?", (json.dumps(data), run))
        return run

    def add(self, event: Event) -> int:
        """Add an event as it is, but with a seq of ours; that seq."""
        row = (event.at, event.lab, event.kind, event.message, event.node, json.dumps(event.data))
        with self._database.transaction() as connection:
            added = connection.execute(
                "INSERT INTO events (at, lab, kind, message, node, data) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            seq = added.lastrowid or 0
            if seq % PRUNED_EVERY == 0:
                self._prune()
        self._newest[event.lab] = self._newest[ALL] = seq
        return seq

    def _prune(self) -> None:
        for lab in [name for name in self._newest if name != ALL]:
            self._database.rows(
                "DELETE FROM events WHERE lab = ? AND seq <= (SELECT seq FROM events"
                " WHERE lab = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                lab,
                lab,
                KEPT_PER_LAB,
            )

    def forget(self, lab: str) -> None:
        """Drop the events of an earlier lab of that name."""
        self._database.rows("DELETE FROM events WHERE lab = ?", lab)

    def after(self, seq: int, lab: str | None, limit: int) -> tuple[Event, ...]:
        """Up to `limit` events of one lab (None: of all) newer than `seq`, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM events WHERE seq > ? AND lab = coalesce(?, lab) ORDER BY seq LIMIT ?",
            seq,
            lab,
            limit,
        )
        return tuple(
            Event(
                row["seq"],
                row["at"],
                row["lab"],
                EventKind(row["kind"]),
                row["message"],
                row["node"],
                json.loads(row["data"]),
            )
            for row in rows
        )

    def wait(self, seq: int, lab: str | None, limit: int, wait_s: float) -> tuple[Event, ...]:
        """`after`, but waits up to `wait_s` until there is at least one."""

        def probe() -> tuple[Event, ...]:
            if self._closed:
                return ()
            newest = self._newest.get(lab or ALL, 0)
            found = self.after(seq, lab, limit) if newest > seq else ()
            if not found:
                raise NotYet
            return found

        try:
            return wait_until(
                probe, name="an event", limit_s=wait_s, clock=self._clock, interval_s=POLL_S
            )
        except TimedOut:
            return ()

    def close(self) -> None:
        """Send waiting readers home, so that the server can end."""
        self._closed = True
