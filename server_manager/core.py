"""What every use case works with, made once per process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from labcore.clock import Clock
from labcore.errors import Conflict, UsageProblem
from labcore.services import Service
from labcore.wire.event import EventKind
from labcore.wire.node import SCALER_TOKEN
from server_manager.database import Database
from server_manager.drivers.base import Driver, ServerSpec, SshIdentity
from server_manager.events import EventLog
from server_manager.executors import Executor
from server_manager.images.records import ImageRecords
from server_manager.journal import Journal
from server_manager.labspec import LabSpec, member_name, most_servers
from server_manager.paths import StatePaths
from server_manager.ports import Moved, Ports, first_of, is_free, told
from server_manager.probes import Prober
from server_manager.registry import LabRecord, Labs, ServerRecord, Servers, Settings
from server_manager.secrets import Secrets
from server_manager.ssh_keys import SshKeys

BOOT_FACTOR = 5.0  # of the time in which a builder greeted: others boot beside it, services follow


class Drivers:
    """The drivers of this process, each made when it is first asked for."""

    def __init__(
        self, known: tuple[str, ...], make: Callable[[str, Mapping[str, object]], Driver]
    ) -> None:
        self.names = known
        self._make = make
        self._made: dict[tuple[str, str], Driver] = {}

    def get(self, name: str, settings: Mapping[str, object] | None = None) -> Driver:
        """The driver of that name, for labs whose file says `settings` to it.

        Raises UsageProblem with the known ones.
        """
        if name not in self.names:
            raise UsageProblem(f"unknown driver {name!r}", f"known: {', '.join(self.names)}")
        key = (name, json.dumps(settings or {}, sort_keys=True))
        if key not in self._made:
            self._made.setdefault(key, self._make(name, settings or {}))
        return self._made[key]

    def of(self, spec: LabSpec) -> Driver:
        """The driver that makes the servers of a lab."""
        return self.get(spec.driver, spec.settings)


@dataclass(frozen=True)
class Core:
    """The parts; none of them knows another."""

    paths: StatePaths
    database: Database
    labs: Labs
    servers: Servers
    settings: Settings
    events: EventLog
    journal: Journal
    images: ImageRecords
    ports: Ports
    secrets: Secrets
    ssh_keys: SshKeys
    drivers: Drivers
    prober: Prober
    clock: Clock
    executor: Executor

    def driver(self, lab: LabRecord) -> Driver:
        """The driver that makes the servers of a lab."""
        return self.drivers.of(lab.spec)

    def services(self, lab: LabRecord, server: ServerRecord) -> tuple[Service, ...]:
        """What runs on a server."""
        return lab.spec.services[server.group]

    def server_spec(self, lab: LabRecord, server: ServerRecord) -> ServerSpec:
        """What the driver is asked to make; the same each time, as leases and tokens stay."""
        group = lab.spec.group(server.group)
        services = self.services(lab, server)
        wanted = sorted({name for service in services for name in service.secrets})
        secrets = {name: self.secrets.one(lab.name, name) for name in wanted}
        scales = SCALER_TOKEN in secrets
        by_host = scales and lab.spec.network == "nat"
        return ServerSpec(
            ref=server.ref,
            group=group.name,
            role=group.role,
            region=group.region,
            cpus=group.cpus,
            memory_mib=group.memory_mib,
            services=services,
            forwards=self.ports.forwards(lab.name, server.name, services),
            secrets=secrets,
            manager_port=self.settings.manager_port if scales else None,
            number=max(1, server.number),
            network=lab.spec.network,
            image=self._image(lab),
            ssh=self._ssh(lab, server, group.role),
            host_ports=self.ports.may_be_of(lab.spec, lab.slot) if by_host else (),
        )

    def _image(self, lab: LabRecord) -> str | None:
        if lab.spec.image is None:
            return None
        image = self.images.get(lab.spec.driver, lab.spec.image)
        if image.handle is None:
            raise Conflict(
                f"image {image.name!r} is {image.state}",
                f"labctl image build --driver {image.driver} --name {image.name}",
            )
        return image.handle

    def boot_limit_s(self, lab: LabRecord) -> float:
        """How long a server of a lab may take to be healthy: as the lab file says, else as its
        driver says, and longer where its image was slow."""
        if lab.spec.boot_limit_s is not None:
            return lab.spec.boot_limit_s
        limit_s = self.driver(lab).capabilities().boot_limit_s
        image = self.images.find(lab.spec.driver, lab.spec.image) if lab.spec.image else None
        return max(limit_s, BOOT_FACTOR * (image.boot_s or 0.0)) if image else limit_s

    def _ssh(self, lab: LabRecord, server: ServerRecord, role: str) -> SshIdentity | None:
        if self.driver(lab).capabilities().access != "ssh":
            return None
        others = [
            member_name(group, index)
            for group in lab.spec.groups
            for index in range(1, most_servers(group) + 1)
            if member_name(group, index) != server.name
        ]
        identity = self.ssh_keys.identity(lab.name, server.name, role, others)
        if role != "control":
            return identity
        ports = {other: self.ports.of(lab.name, other).get("ssh") for other in others}
        return replace(identity, ports={name: port for name, port in ports.items() if port})

    def tell_moved(self, lab: str, moved: Sequence[Moved]) -> None:
        """Publish which documented ports were taken, by whom, and what is used instead."""
        for port, holder in told(moved):
            self.events.publish(
                lab,
                EventKind.PORT,
                f"{port.node}: {port.service} is on port {port.port}, as {port.wanted} is held"
                f" by {holder}",
                node=port.node,
                data={
                    "service": port.service,
                    "wanted": port.wanted,
                    "port": port.port,
                    "holder": holder,
                },
            )


def make_core(
    paths: StatePaths,
    drivers: Drivers,
    prober: Prober,
    clock: Clock,
    executor: Executor,
    is_free: Callable[[int], bool] = is_free,
) -> Core:
    """Open the state directory, making it if need be, and put the parts together."""
    paths.make()
    database = Database(paths.database)
    core = Core(
        paths=paths,
        database=database,
        labs=Labs(database),
        servers=Servers(database),
        settings=Settings(database),
        events=EventLog(database, clock),
        journal=Journal(database, clock),
        images=ImageRecords(database),
        ports=Ports(database, is_free=is_free, first=first_of(paths.root)),
        secrets=Secrets(paths),
        ssh_keys=SshKeys(paths),
        drivers=drivers,
        prober=prober,
        clock=clock,
        executor=executor,
    )
    for lab in core.labs.all():
        core.secrets.of(lab.name)
    return core
