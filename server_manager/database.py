"""One SQLite file in WAL mode, its schema and numbered upgrades, short transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from labcore.errors import Conflict

# UPGRADES[n] leads from schema n to n + 1. What was released is never edited: add the next one.
UPGRADES: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        """CREATE TABLE labs (
            name TEXT PRIMARY KEY, spec TEXT NOT NULL, slot INTEGER NOT NULL UNIQUE,
            desired TEXT NOT NULL, problem TEXT, created_at TEXT NOT NULL,
            run INTEGER NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0) STRICT""",
        """CREATE TABLE groups (
            lab TEXT NOT NULL REFERENCES labs ON DELETE CASCADE, name TEXT NOT NULL,
            desired_count INTEGER NOT NULL, mode TEXT NOT NULL, PRIMARY KEY (lab, name)) STRICT""",
        """CREATE TABLE servers (
            lab TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
            "group" TEXT NOT NULL, "index" INTEGER NOT NULL, wanted TEXT NOT NULL, problem TEXT,
            PRIMARY KEY (lab, name),
            FOREIGN KEY (lab, "group") REFERENCES groups ON DELETE CASCADE) STRICT""",
        """CREATE TABLE leases (
            lab TEXT NOT NULL REFERENCES labs ON DELETE CASCADE, node TEXT NOT NULL,
            service TEXT NOT NULL, host_port INTEGER NOT NULL UNIQUE,
            PRIMARY KEY (lab, node, service)) STRICT""",
        """CREATE TABLE journal (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, lab TEXT NOT NULL,
            node TEXT NOT NULL, operation TEXT NOT NULL, state TEXT NOT NULL, error TEXT) STRICT""",
        "CREATE INDEX journal_state ON journal (state)",
        # Not tied to labs: the end of a lab is told after the lab is gone.
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, lab TEXT NOT NULL,
            kind TEXT NOT NULL, message TEXT NOT NULL, node TEXT, data TEXT NOT NULL) STRICT""",
        "CREATE INDEX events_lab ON events (lab, seq)",
    ),
    # What static addresses are made from; 0 in rows of before, whose nodes have none.
    ("ALTER TABLE servers ADD COLUMN number INTEGER NOT NULL DEFAULT 0",),
    (
        """CREATE TABLE images (
            driver TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL,
            image TEXT NOT NULL, PRIMARY KEY (driver, name)) STRICT""",
    ),
    ("ALTER TABLE labs ADD COLUMN adoption TEXT NOT NULL DEFAULT 'none'",),
)


class Database:
    """The file at `path`, made or upgraded when it is opened. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10.0
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A crash of ours loses nothing then; a crash of the machine takes the servers with it.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        try:
            self._upgrade(path)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; no call may follow."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what the body writes. One inside another joins the outer one.

        Other threads wait meanwhile, so the body does nothing slow and calls no driver.
        """
        with self._lock:
            if self._depth:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself where the disk was full, but not always.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """All that the body reads is of one moment. Other threads wait meanwhile."""
        with self._lock:
            yield

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """The rows that one statement gives."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _upgrade(self, path: Path) -> None:
        with self.transaction() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > len(UPGRADES):
                raise Conflict(
                    f"{path} was written by a newer labctl (schema {found}, ours {len(UPGRADES)})",
                    "use that labctl, or another LABCTL_STATE_DIR",
                )
            for statements in UPGRADES[found:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(UPGRADES)}")
