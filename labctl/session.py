"""Finds or starts the server-manager, picks the lab, reads tokens: what a command begins with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from labcore.clock import Clock, SystemClock
from labcore.errors import Conflict, LabError, NotFound, UsageProblem, from_wire
from labcore.files import read_secret
from labcore.http_client import call
from labcore.manager_client import ManagerClient
from labcore.names import check_name
from labcore.wire.lab import Desired, Lab
from labcore.wire.node import SCALER_API_TOKEN
from labctl.clients.scaler import ScalerClient
from server_manager.paths import StatePaths

LAB_FILE = Path("lab.yaml")
CALL_LIMIT_S = 120.0


@dataclass(frozen=True)
class Session:
    """One command's way to the server-manager, which runs."""

    manager: ManagerClient
    paths: StatePaths = field(default_factory=StatePaths.find)
    clock: Clock = field(default_factory=SystemClock)

    def lab(self, wanted: str | None) -> Lab:
        """The lab a command is about. Raises NotFound, or Conflict where it is not clear."""
        return choose(self.manager.labs(), wanted, LAB_FILE)

    def scaler(self, lab: Lab) -> ScalerClient:
        """The scaler of a lab. Raises Conflict if the lab is not up, LabError without a token."""
        if lab.desired is not Desired.UP or lab.scaler_url is None:
            raise Conflict(
                f"lab {lab.lab!r} is {lab.state}: it has no scaler", f"labctl up --lab {lab.lab}"
            )
        try:
            token = read_secret(self.paths.secrets(lab.lab) / SCALER_API_TOKEN)
        except OSError as error:
            raise LabError(f"cannot read the scaler token of lab {lab.lab!r}: {error}") from error
        return ScalerClient(lab.scaler_url, token)


def connect(clock: Clock | None = None) -> Session:
    """A session with the server-manager, which is started if none runs."""
    from server_manager.starter import ensure_running

    paths, clock = StatePaths.find(), clock or SystemClock()
    return Session(ensure_running(paths, clock), paths, clock)


def connect_if_labs() -> Session:
    """`connect`, but raises NotFound, starting nothing, where no lab was ever made."""
    if not StatePaths.find().database.exists():
        raise NotFound("there is no lab", "labctl up makes one")
    return connect()


def look(wanted: str | None) -> Lab | None:
    """The lab a command would be about, if the server-manager runs; starts nothing."""
    manager = running(StatePaths.find())
    return choose(manager.labs(), wanted, LAB_FILE) if manager else None


def running(paths: StatePaths) -> ManagerClient | None:
    """The server-manager that runs and answers; None if there is none."""
    from server_manager import starter

    found = starter.status(paths)
    try:
        manager = ManagerClient(found.url, read_secret(paths.admin_token)) if found else None
    except OSError:
        return None
    return manager if manager and manager.is_alive() else None


def call_api(session: Session, method: str, path: str, body: object) -> object:
    """Any call of the server-manager's API; a JSON value, or text where the answer is none.

    `path` begins below `/api/v1`, unless it is a whole one: `/`, `/metrics`, `/api/...`. Raises the
    LabError that the server-manager answered with.
    """
    if not path.startswith("/"):
        raise UsageProblem(f"path {path!r} does not begin with /", "for example: /labs")
    whole = path in ("/", "/metrics") or path.startswith("/api/")
    url = session.manager.url + (path if whole else f"/api/v1{path}")
    token = read_secret(session.paths.admin_token)
    status, raw = call(method, url, body, token=token, timeout_s=CALL_LIMIT_S)
    try:
        value: object = json.loads(raw) if raw else None
    except ValueError:
        value = raw.decode(errors="replace")
    if not 200 <= status < 300:
        raise from_wire(value, f"{method} {path}: HTTP {status}")
    return value


def choose(labs: tuple[Lab, ...], wanted: str | None, file: Path) -> Lab:
    """The lab `wanted`; else the one that `file` names; else the only one.

    Raises NotFound if that one is not there, UsageProblem if it is not clear which is meant.
    """
    known = ", ".join(sorted(lab.lab for lab in labs)) or "none"
    name, origin = wanted, ""
    if name is None and file.exists():
        name, origin = name_in(file), f" (named in {file})"
    if name is None and len(labs) == 1:
        return labs[0]
    if name is None and not labs:
        raise NotFound("there is no lab", "labctl up makes one")
    if name is None:
        raise UsageProblem("there are several labs", f"say which with --lab: {known}")
    for lab in labs:
        if lab.lab == check_name(name, "lab"):
            return lab
    raise NotFound(f"there is no lab {name!r}{origin}", f"labs: {known}; labctl up makes one")


def name_in(file: Path) -> str | None:
    """The lab's name in a lab file, whatever else is wrong with it; None if it has none."""
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    name = data.get("lab") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None
