"""What the services and the supervisor of one server read: its node config and its plan."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

from labcore import commands
from labcore.errors import LabError
from labcore.services import Runtime, Unit, make_unit
from labcore.wire.node import NodeConfig
from server_manager.drivers.base import Capabilities, ServerSpec, node_config
from server_manager.drivers.local.folder import NODE_FILE
from server_manager.drivers.local.nginx import find_nginx
from server_manager.drivers.local.plan import MARK, Plan, start_order


def run_files(
    spec: ServerSpec, folder: Path, *, capabilities: Capabilities, search_path: str
) -> tuple[NodeConfig, Plan]:
    """The node config and the plan of a server in `folder`.

    Programs are looked for now: an upgrade of labctl or of nginx counts from the next start.
    Raises DriverUnusable if it needs nginx and there is none; UsageProblem if its services wait for
    one another.
    """
    wants_nginx = any("{nginx}" in word for s in spec.services for word in s.argv)
    node = node_config(
        spec,
        directory=str(folder),
        capabilities=capabilities,
        nginx=find_nginx(search_path)[0] if wants_nginx else "nginx",
        manager_host="127.0.0.1",
    )
    runtime = Runtime(module=(sys.executable, "-I", "-m"), config=str(folder / NODE_FILE))
    units = start_order([make_unit(service, node, runtime) for service in spec.services])
    return node, Plan(
        launcher=_launcher(search_path),
        units=tuple(_with_environment(unit, spec.ref.id, search_path) for unit in units),
    )


def _with_environment(unit: Unit, server_id: str, search_path: str) -> Unit:
    """The unit with its whole environment: nothing of the user's shell but where programs are."""
    base = {"PATH": search_path, "HOME": unit.directory, "LANG": "C.UTF-8"}
    return dataclasses.replace(unit, env={**base, **unit.env, MARK: server_id})


def _launcher(search_path: str) -> tuple[str, ...]:
    """What makes Linux end a service when its supervisor dies; () where there is no such program.

    SIGTERM and not SIGKILL: a killed nginx master would leave its workers behind.
    """
    program = shutil.which("setpriv", path=search_path)
    if program is None:
        return ()
    launcher = (program, "--pdeathsig", "TERM", "--")
    try:
        works = commands.run((*launcher, "true"), timeout_s=5.0).returncode == 0
    except LabError:
        works = False
    return launcher if works else ()
