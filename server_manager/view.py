"""Labs and servers as the API tells them: our wishes beside what the driver says right now."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import Counter

from labcore.errors import LabError
from labcore.wire.lab import (
    Desired,
    Group,
    Lab,
    LabElsewhere,
    LabState,
    PowerState,
    Server,
    Wanted,
)
from server_manager.core import Core
from server_manager.drivers.base import DriverServer, StrayFinding
from server_manager.operations import Operations
from server_manager.registry import LabRecord, ServerRecord

_log = logging.getLogger(__name__)
_NOT_BROKEN = (PowerState.RUNNING, PowerState.STARTING)


class View:
    """Reads only."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core = core
        self._operations = operations

    def lab(self, record: LabRecord) -> Lab:
        """One lab, its driver asked once; its wishes are of one moment."""
        with self._core.database.reading():
            rows, groups = self._core.servers.of(record.name), self.groups(record)
        servers = self._told(record, rows)
        return Lab(
            lab=record.name,
            driver=record.spec.driver,
            desired=record.desired,
            state=state_of(record, servers),
            created_at=record.created_at,
            groups=groups,
            balancers=record.spec.balancers,
            servers=servers,
            load_balancer_url=service_url(servers, "nginx"),
            scaler_url=service_url(servers, "scaler"),
            problem=record.problem,
            adopted=record.is_adopted,
            boot_limit_s=self._boot_limit_s(record),
        )

    def elsewhere(self) -> tuple[LabElsewhere, ...]:
        """Labs of others in the back ends that labs here use, as far as this user may see them. A
        back end that does not answer shows none: the labs here say what is wrong with it."""
        records = self._core.labs.all()
        known = [record.name for record in records]
        found: set[tuple[str, str, str]] = set()  # several settings may lead to one back end
        for record in records:
            with contextlib.suppress(LabError):
                driver = self._core.driver(record)
                if isinstance(driver, StrayFinding):
                    found |= {(s.lab, driver.name, s.name) for s in driver.strays(known)}
        counts = Counter((lab, driver) for lab, driver, _ in found)
        return tuple(LabElsewhere(*lab, count) for lab, count in sorted(counts.items()))

    def _boot_limit_s(self, record: LabRecord) -> float:
        try:
            return self._core.boot_limit_s(record)
        except LabError:
            return 0.0  # its driver cannot be used here any more

    def groups(self, record: LabRecord) -> tuple[Group, ...]:
        """The groups of a lab with what is wished for them now."""
        wishes = self._core.labs.wishes(record.name)
        return tuple(
            dataclasses.replace(
                group,
                desired_count=wishes[group.name].desired_count,
                mode=wishes[group.name].mode,
            )
            for group in record.spec.groups
            if group.name in wishes
        )

    def servers(self, record: LabRecord) -> tuple[Server, ...]:
        """The servers of a lab, its driver asked once."""
        return self._told(record, self._core.servers.of(record.name))

    def _told(self, record: LabRecord, rows: tuple[ServerRecord, ...]) -> tuple[Server, ...]:
        problem = None
        found: dict[str, DriverServer] = {}
        try:
            told = self._core.driver(record).servers(record.name)
            found = {server.ref.id: server for server in told}
        except LabError as error:
            problem = error.message
        except Exception:
            _log.exception("driver %s: servers of %s", record.spec.driver, record.name)
            problem = "the driver failed; see the log"
        # Only a driver that answered can have said that a server is not there.
        silent = PowerState.ABSENT if problem is None else PowerState.UNKNOWN
        return tuple(
            self._server(record, row, found.get(row.id), DriverServer(row.ref, silent, {}, problem))
            for row in rows
        )

    def server(self, record: LabRecord, row: ServerRecord) -> Server:
        """One server."""
        return next(server for server in self.servers(record) if server.name == row.name)

    def _server(
        self,
        record: LabRecord,
        row: ServerRecord,
        told: DriverServer | None,
        untold: DriverServer,
    ) -> Server:
        found = told or untold
        group = record.spec.group(row.group)
        return Server(
            name=row.name,
            lab=row.lab,
            group=row.group,
            role=group.role,
            region=group.region,
            index=row.index,
            wanted=row.wanted,
            state=found.state,
            endpoints=found.endpoints,
            cpus=group.cpus,
            memory_mib=group.memory_mib,
            operation=self._operations.current(row),
            problem=found.problem or row.problem,
            member=found.member,
        )


def state_of(record: LabRecord, servers: tuple[Server, ...]) -> LabState:
    """How far a lab is. Pure."""
    if record.running:
        return LabState.CONVERGING
    if record.problem is not None:
        return LabState.FAILED
    if record.desired is not Desired.UP:
        return LabState.DOWN
    broken = any(
        server.wanted is Wanted.ON and server.state not in _NOT_BROKEN and server.operation is None
        for server in servers
    )
    return LabState.DEGRADED if broken else LabState.UP


def service_url(servers: tuple[Server, ...], service: str) -> str | None:
    """Where the host reaches the first server that offers a service, if one does."""
    addresses = (server.endpoints.get("host", {}).get(service) for server in servers)
    return next((f"http://{address}" for address in addresses if address), None)
