"""What `up` wishes for: which lab file, which driver, as the body of a PUT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_node import policies
from labcore.errors import DriverUnusable, LabError, NotFound
from labctl import blueprints
from labctl.session import LAB_FILE, Session
from server_manager import labfile

PREFERRED = ("virtualbox", "local")  # of `driver: auto`, the first that can be used


@dataclass(frozen=True)
class Wish:
    """A lab to be."""

    lab: str
    driver: str
    why: str  # why this driver and this file, for people
    body: dict[str, Any]  # the lab file as JSON, its driver resolved


def read(
    file: Path | None, sets: tuple[str, ...], lab: str | None
) -> tuple[labfile.LabFile, str] | None:
    """The lab file and where it is from: `file`, else ./lab.yaml; None without either."""
    path = file or LAB_FILE
    if file is None and not path.exists():
        return None
    return labfile.load(path, sets, lab=lab), str(path)


def without_file(
    session: Session, sets: tuple[str, ...], lab: str | None
) -> tuple[labfile.LabFile, str]:
    """What a lab that exists was made from; else the autoscale blueprint.

    Without a name: the only lab; if there is none, the one of the blueprint. Raises UsageProblem
    where it is not clear which is meant.
    """
    known = {known.lab for known in session.manager.labs()}
    if lab is None and known:
        lab = session.lab(None).lab
    if lab is not None and lab in known:
        source = f"what lab {lab} was made from"
        return labfile.override(session.manager.lab_file(lab), source, sets), source
    source = f"blueprint {blueprints.DEFAULT}"
    return labfile.parse(blueprints.text(blueprints.DEFAULT), source, sets, lab=lab), source


def check_policies(lab: labfile.LabFile) -> None:
    """Raise UsageProblem if a scaler could not follow the policies of a lab file.

    The server-manager knows nothing of policies, so their settings are checked here.
    """
    for group in labfile.to_wire(lab).groups:
        if group.scaling is not None:
            policies.check(group.scaling)


def make(session: Session, file: labfile.LabFile, source: str, driver: str | None) -> Wish:
    """Resolve the driver: `driver`, else the file's; `auto` asks the lab, then the machine.

    Raises DriverUnusable with every driver's reason if `auto` finds none, UsageProblem if a policy
    cannot be followed.
    """
    check_policies(file)
    wanted = driver or file.driver
    why = "as --driver says" if driver else "as the lab file says"
    if wanted == "auto":
        wanted, why = _automatic(session, file.lab)
    body = {**labfile.to_json(file), "driver": wanted}
    return Wish(file.lab, wanted, f"lab {file.lab} from {source}; driver {wanted}, {why}", body)


def _automatic(session: Session, lab: str) -> tuple[str, str]:
    try:
        return session.manager.lab(lab).driver, "the lab has it already"
    except NotFound:
        pass
    reasons: list[str] = []
    known = {entry["name"]: entry for entry in drivers(session)}
    for name in PREFERRED:
        entry = known.get(name, {"ok": False, "reason": "this version has no such driver"})
        if entry["ok"] and not _lacks_image(entry):
            why = "; ".join(reasons) or f"{name} {entry.get('version', '')}".strip() + " works here"
            return name, why
        lacks = _lacks_image(entry) and f"it has no image: labctl image build --driver {name}"
        reasons.append(f"{name}: {entry.get('reason') or lacks or 'cannot be used'}")
    raise DriverUnusable("no driver can be used here", "labctl doctor", tuple(reasons))


def _lacks_image(entry: dict[str, Any]) -> bool:
    support = (entry.get("capabilities") or {}).get("images")
    return bool(support and support["required"] and not entry.get("images"))


def drivers(session: Session) -> list[dict[str, Any]]:
    """What the server-manager says of each driver: name, ok, version, reason, fix, ..."""
    return _drivers(session, "")


def driver(session: Session, name: str) -> dict[str, Any]:
    """The same of one driver; empty if it is not known there."""
    found = _drivers(session, f"?name={name}")
    return next((entry for entry in found if entry.get("name") == name), {})


def _drivers(session: Session, query: str) -> list[dict[str, Any]]:
    answer = session.manager.request("GET", f"/drivers{query}", timeout_s=30.0)
    if not isinstance(answer, dict) or not isinstance(answer.get("drivers"), list):
        raise LabError("the server-manager's list of drivers has no drivers")
    return [entry for entry in answer["drivers"] if isinstance(entry, dict)]
