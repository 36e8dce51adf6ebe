"""Labs, groups and servers as rows: what is wished for, never what a driver would know."""

from __future__ import annotations

import functools
import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from labcore.codec import decode, encode
from labcore.errors import Conflict, NotFound
from labcore.wire.lab import Desired, Mode, Wanted
from server_manager.database import Database
from server_manager.drivers.base import ServerRef
from server_manager.labspec import LabSpec

MOST_LABS = 24  # the port block of lab 24 would reach into the ephemeral ports of Linux


class Adoption(StrEnum):
    """Whether others made the machines of a lab, and whether all of them know yet what they are."""

    NONE = "none"  # we made them
    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True)
class LabRecord:
    """One lab. `run` is the number of its last run, `running` whether that one has not ended."""

    name: str
    spec: LabSpec
    slot: int
    desired: Desired
    problem: str | None
    created_at: str
    run: int
    running: bool
    adoption: Adoption = Adoption.NONE

    @property
    def is_adopted(self) -> bool:
        """Whether its machines are somebody else's, never to be made or destroyed by us."""
        return self.adoption is not Adoption.NONE


@dataclass(frozen=True)
class ServerRecord:
    """One server that is ours, whether or not a driver has made it yet."""

    lab: str
    name: str
    id: str
    group: str
    index: int
    wanted: Wanted
    problem: str | None
    number: int = 0  # its own in its lab

    @property
    def ref(self) -> ServerRef:
        """How drivers call it."""
        return ServerRef(self.lab, self.name, self.id)


@dataclass(frozen=True)
class GroupWish:
    """How many nodes a group should have, and who decides that."""

    desired_count: int
    mode: Mode


class Labs:
    """The labs and the wishes for their groups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[LabRecord, ...]:
        """Every lab, by name."""
        rows = self._database.rows("SELECT * FROM labs ORDER BY name")
        return tuple(_lab(row) for row in rows)

    def count(self) -> int:
        """How many labs there are."""
        return int(self._database.rows("SELECT count(*) AS n FROM labs")[0]["n"])

    def find(self, name: str) -> LabRecord | None:
        """The lab of that name, if there is one."""
        rows = self._database.rows("SELECT * FROM labs WHERE name = ?", name)
        return _lab(rows[0]) if rows else None

    def get(self, name: str) -> LabRecord:
        """The lab of that name; raises NotFound."""
        found = self.find(name)
        if found is None:
            raise NotFound(f"there is no lab {name!r}", "labctl status shows the labs there are")
        return found

    def add(self, spec: LabSpec, at: str, desired: Desired = Desired.UP) -> LabRecord:
        """Write a new lab in the lowest free slot, with its groups as the spec says."""
        with self._database.transaction() as connection:
            taken = {row["slot"] for row in self._database.rows("SELECT slot FROM labs")}
            slot = next(number for number in range(len(taken) + 1) if number not in taken)
            if slot >= MOST_LABS:
                raise Conflict(f"there are {MOST_LABS} labs, and no ports for more")
            connection.execute(
                "INSERT INTO labs (name, spec, slot, desired, created_at) VALUES (?, ?, ?, ?, ?)",
                (spec.lab, json.dumps(encode(spec)), slot, desired, at),
            )
            for group in spec.groups:
                self.set_wish(spec.lab, group.name, GroupWish(group.desired_count, group.mode))
        return self.get(spec.lab)

    def set_spec(self, spec: LabSpec) -> None:
        """Replace what a lab consists of."""
        text = json.dumps(encode(spec))
        self._database.rows("UPDATE labs SET spec = ? WHERE name = ?", text, spec.lab)

    def set_adoption(self, name: str, adoption: Adoption, problem: str | None) -> None:
        """Write down how far an adoption has come, and what is left to do."""
        self._database.rows(
            "UPDATE labs SET adoption = ?, problem = ? WHERE name = ?", adoption, problem, name
        )

    def begin_run(self, name: str, desired: Desired, run: int) -> None:
        """Write down a wish before anything is done about it."""
        self._database.rows(
            "UPDATE labs SET desired = ?, run = ?, running = 1, problem = NULL WHERE name = ?",
            desired,
            run,
            name,
        )

    def end_run(self, name: str, problem: str | None) -> None:
        """Write down that the run ended, and why if it failed."""
        self._database.rows(
            "UPDATE labs SET running = 0, problem = ? WHERE name = ?", problem, name
        )

    def remove(self, name: str) -> None:
        """Forget a lab, its groups, servers and leases."""
        self._database.rows("DELETE FROM labs WHERE name = ?", name)

    def wishes(self, lab: str) -> Mapping[str, GroupWish]:
        """What is wished for each group of a lab."""
        rows = self._database.rows("SELECT * FROM groups WHERE lab = ?", lab)
        return {row["name"]: GroupWish(row["desired_count"], row["mode"]) for row in rows}

    def set_wish(self, lab: str, group: str, wish: GroupWish) -> None:
        """Wish for a group; the group is added if it is new."""
        self._database.rows(
            "INSERT INTO groups (lab, name, desired_count, mode) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET desired_count = excluded.desired_count,"
            " mode = excluded.mode",
            lab,
            group,
            wish.desired_count,
            wish.mode,
        )


class Servers:
    """The servers of all labs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, lab: str | None = None) -> tuple[ServerRecord, ...]:
        """The servers of a lab (None: of all labs), by group and number."""
        rows = self._database.rows(
            'SELECT * FROM servers WHERE lab = coalesce(?, lab) ORDER BY lab, "group", "index"', lab
        )
        return tuple(_server(row) for row in rows)

    def find(self, lab: str, name: str) -> ServerRecord | None:
        """One server, if it is ours."""
        rows = self._database.rows("SELECT * FROM servers WHERE lab = ? AND name = ?", lab, name)
        return _server(rows[0]) if rows else None

    def get(self, lab: str, name: str) -> ServerRecord:
        """One server; raises NotFound."""
        found = self.find(lab, name)
        if found is None:
            raise NotFound(f"lab {lab!r} has no server {name!r}", "labctl status shows all servers")
        return found

    def add(
        self, lab: str, group: str, index: int, name: str, id: str | None = None
    ) -> ServerRecord:
        """Write a new server, wanted on, with an id of its own or `id`; one that is there stays.

        Its number is the lowest that no server of the lab has.
        """
        with self._database.transaction():
            taken = {server.number for server in self.of(lab)}
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            self._database.rows(
                'INSERT INTO servers (lab, name, id, "group", "index", wanted, number)'
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (lab, name) DO NOTHING",
                lab,
                name,
                id or str(uuid.uuid4()),
                group,
                index,
                Wanted.ON,
                number,
            )
        return self.get(lab, name)

    def by_id(self, id: str) -> ServerRecord | None:
        """The server with that id, of whatever lab."""
        rows = self._database.rows("SELECT * FROM servers WHERE id = ?", id)
        return _server(rows[0]) if rows else None

    def want(self, server: ServerRecord, wanted: Wanted) -> None:
        """Write down what a server should be."""
        self._database.rows("UPDATE servers SET wanted = ? WHERE id = ?", wanted, server.id)

    def set_problem(self, server: ServerRecord, problem: str | None) -> None:
        """Write down why the last operation failed; None: it did not."""
        self._database.rows("UPDATE servers SET problem = ? WHERE id = ?", problem, server.id)

    def remove(self, server: ServerRecord) -> None:
        """Forget a server that no longer exists."""
        self._database.rows("DELETE FROM servers WHERE id = ?", server.id)


class Settings:
    """Single values that outlive the process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def manager_port(self) -> int | None:
        """The port the server-manager listened on last; nodes were told it."""
        rows = self._database.rows("SELECT value FROM settings WHERE name = 'manager_port'")
        return int(rows[0]["value"]) if rows else None

    @manager_port.setter
    def manager_port(self, port: int) -> None:
        self._database.rows("INSERT OR REPLACE INTO settings VALUES ('manager_port', ?)", str(port))


@functools.lru_cache(MOST_LABS)
def _spec(text: str) -> LabSpec:
    # Every question about a lab reads its row, its spec hardly ever changes, and decoding it
    # takes milliseconds.
    return decode(LabSpec, json.loads(text))


def _lab(row: sqlite3.Row) -> LabRecord:
    return LabRecord(
        name=row["name"],
        spec=_spec(row["spec"]),
        slot=row["slot"],
        desired=Desired(row["desired"]),
        problem=row["problem"],
        created_at=row["created_at"],
        run=row["run"],
        running=bool(row["running"]),
        adoption=Adoption(row["adoption"]),
    )


def _server(row: sqlite3.Row) -> ServerRecord:
    return ServerRecord(
        lab=row["lab"],
        name=row["name"],
        id=row["id"],
        group=row["group"],
        index=row["index"],
        wanted=Wanted(row["wanted"]),
        problem=row["problem"],
        number=row["number"],
    )
