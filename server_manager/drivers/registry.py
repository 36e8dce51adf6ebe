"""The one list of drivers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labcore.clock import Clock
from labcore.errors import UsageProblem
from server_manager.drivers.base import Driver, ServerRef
from server_manager.paths import StatePaths

Settings = Mapping[str, object]  # the lab file's section that has the driver's name


@dataclass(frozen=True)
class DriverContext:
    """What drivers are made with: they read no environment and choose no paths."""

    clock: Clock
    node_directory: Callable[[ServerRef], Path]  # absolute; where files of a server belong
    ssh_keys: Callable[[str], Path]  # of a lab
    image_directory: Callable[[str, str], Path]  # of a driver, where files of an image belong
    search_path: str  # as in PATH: where programs are looked for, and what services get
    environ: Mapping[str, str]  # in which installers of back ends say where they put them
    user_directory: Path  # of this user, in whatever state directory: what labs share
    driver_directory: Callable[[str], Path]  # by driver: what it keeps for all its labs together

    @staticmethod
    def of(paths: StatePaths, clock: Clock, environ: Mapping[str, str]) -> DriverContext:
        """That of a state directory and an environment."""
        return DriverContext(
            clock=clock,
            node_directory=paths.node,
            ssh_keys=paths.ssh,
            image_directory=paths.image,
            search_path=environ.get("PATH", os.defpath),
            environ=environ,
            user_directory=StatePaths.find({}).root,
            driver_directory=paths.driver,
        )


# Each imports its driver when it is asked for: nobody pays for the libraries of the others.
def _local(context: DriverContext, settings: Settings) -> Driver:
    from server_manager.drivers.local.driver import LocalDriver

    return LocalDriver(context.node_directory, clock=context.clock, search_path=context.search_path)


def _fake(context: DriverContext, settings: Settings) -> Driver:
    from server_manager.drivers.fake import FakeDriver

    return FakeDriver(context.clock)


def _virtualbox(context: DriverContext, settings: Settings) -> Driver:
    from server_manager.drivers.virtualbox.driver import VirtualBoxDriver, find_library

    library = find_library(
        context.search_path, context.environ, context.user_directory, context.clock
    )
    return VirtualBoxDriver(
        context.node_directory,
        image_directory=lambda name: context.image_directory("virtualbox", name),
        clock=context.clock,
        library=library,
        search_path=context.search_path,
    )


def _incus(context: DriverContext, settings: Settings) -> Driver:
    from labcore.codec import decode
    from server_manager.drivers.incus.client import Incus
    from server_manager.drivers.incus.driver import IncusDriver
    from server_manager.drivers.incus.records import Records
    from server_manager.drivers.incus.settings import IncusSettings
    from server_manager.drivers.incus.ways import Ways

    where, folder = decode(IncusSettings, settings), context.driver_directory("incus")
    return IncusDriver(
        Incus(
            where,
            search_path=context.search_path,
            environ=context.environ,
            home_file=folder / "home",
        ),
        Ways(folder, context.clock),
        Records(context.node_directory),
        context.clock,
        context.ssh_keys,
    )


_MAKERS: Mapping[str, Callable[[DriverContext, Settings], Driver]] = {
    "local": _local,
    "virtualbox": _virtualbox,
    "incus": _incus,
    "fake": _fake,
}


def names() -> tuple[str, ...]:
    """The known drivers."""
    return tuple(_MAKERS)


def make_driver(name: str, context: DriverContext, settings: Settings | None = None) -> Driver:
    """A new driver of that name, for labs whose file says `settings` to it.

    Raises UsageProblem with the known ones.
    """
    if name not in _MAKERS:
        raise UsageProblem(f"unknown driver {name!r}", f"known: {', '.join(_MAKERS)}")
    return _MAKERS[name](context, settings or {})
