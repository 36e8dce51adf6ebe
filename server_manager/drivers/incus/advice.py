"""What Incus says when something does not work, as our errors, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from labcore.errors import Conflict, DriverFailed, DriverUnusable, LabError, NotFound
from server_manager.drivers.incus.settings import IncusSettings


class NoSuchInstance(NotFound):
    """Incus positively knows no such instance."""


class NoSuchImage(NotFound):
    """Incus positively knows no such image."""


class NameTaken(Conflict):
    """There is an instance of that name."""


class AddressTaken(Conflict):
    """Another instance, running or not, has the address."""


class AlreadyThere(Conflict):
    """It is in the state that it should be brought to."""


class NotRunning(Conflict):
    """It is off, so it can be neither frozen nor looked into."""


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    make: Callable[[str, str], LabError]
    message: str  # `{said}`: what Incus said
    hint: str


def _rule(pattern: str, make: Callable[[str, str], LabError], message: str, hint: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), make, message, hint)


# The first one that fits. In the words of Incus 6.0, whose client is not translated by then.
_RULES = (
    _rule(
        r"daemon doesn't appear to be started|unix\.socket: connect",
        DriverUnusable,
        "Incus does not run on this machine",
        "sudo systemctl start incus; or name another remote: `incus: {{remote: NAME}}`",
    ),
    _rule(
        r"needed permissions to talk|permission denied.*unix\.socket",
        DriverUnusable,
        "you may not use Incus on this machine",
        "sudo adduser $USER incus-admin, then log in again",
    ),
    _rule(
        r"The remote .* doesn't exist",
        DriverUnusable,
        "there is no Incus remote {remote!r}",
        "incus remote list shows those there are, incus remote add {remote} adds it",
    ),
    _rule(
        r"Project not found",
        DriverUnusable,
        "remote {remote!r} has no project {project!r}, or you may not see it",
        "incus project create {remote}:{project}; or change `incus.project` in lab.yaml",
    ),
    _rule(
        r"no (available dqlite )?leader|not enough .*voter|checkpoint in progress"
        r"|Failed to (begin|commit) transaction|cowsql|database is (locked|not ready)",
        DriverUnusable,
        "the Incus cluster {remote!r} has no quorum: too many of its members are down",
        "start members again (incus cluster list {remote}: shows them); nothing was changed",
    ),
    _rule(
        r"(connection refused|no route to host|i/o timeout|network is unreachable|no such host"
        r"|Unable to connect to|context deadline exceeded.*awaiting headers|EOF$)",
        DriverUnusable,
        "remote {remote!r} does not answer: {said}",
        "see whether that machine runs and is in reach; incus remote list shows its address",
    ),
    _rule(
        r"not trusted|Forbidden|not authorized|certificate",
        DriverUnusable,
        "remote {remote!r} does not let you in: {said}",
        "incus remote add {remote} with a new token of `incus config trust add`",
    ),
    _rule(r"Instance not found", NoSuchInstance, "{what}: {said}", "labctl status shows servers"),
    _rule(
        r"Image not provided|(Image|alias).* (not found|doesn't exist)|not find.*image",
        NoSuchImage,
        "remote {remote!r} has no such image: {said}",
        "labctl image build --driver incus makes it",
    ),
    _rule(
        r"type \"container\" doesn't match instance type|Asked for a VM but image is of type",
        DriverUnusable,
        "the image is of a container, and `incus.type` in lab.yaml asks for virtual machines",
        "incus.type: container; or name as `image` one that `incus image list {remote}` calls"
        " VIRTUAL-MACHINE",
    ),
    _rule(
        r"Instance type .* is not supported on this server",
        DriverUnusable,
        "remote {remote!r} cannot run virtual machines: {said}",
        "incus.type: container; or give that machine QEMU and hardware virtualization",
    ),
    _rule(
        r"(IP|MAC) address .* already defined on another NIC|address .* already in use",
        AddressTaken,
        "{said}",
        "another instance, maybe a stopped one, has it: incus list {remote}: shows which",
    ),
    _rule(
        r"UNIQUE constraint failed: instances|Instance .* already exists",
        NameTaken,
        "{what}: an instance of that name exists already",
        "it is not this lab's: give the lab another name, or `incus.project` another project",
    ),
    _rule(
        r"is already (running|frozen|stopped)|already (running|stopped)", AlreadyThere, "{said}", ""
    ),
    _rule(r"(isn't|is not) running", NotRunning, "{said}", "start it first"),
    _rule(
        r"Target only allowed when clustered",
        DriverUnusable,
        "remote {remote!r} is no cluster, so `incus.placement` cannot name a member",
        "leave `placement` out of lab.yaml",
    ),
    _rule(
        r"member .*(not found|offline|down|doesn't exist|isn't online)"
        r"|No (suitable )?cluster member|evacuated",
        DriverUnusable,
        "remote {remote!r}: {said}",
        "incus cluster list {remote}: shows its members; choose another `incus.placement`",
    ),
    _rule(
        r"network .* not found|Network not found|Failed loading network",
        DriverUnusable,
        "remote {remote!r} has no such network: {said}",
        "incus network list {remote}: shows those there are; set `incus.network` in lab.yaml",
    ),
    _rule(
        r"Profile not found|Storage pool not found|No root device|no space left|quota",
        DriverUnusable,
        "remote {remote!r}: {said}",
        "incus profile list {remote}: and incus storage list {remote}: show what there is",
    ),
)


def advise(what: str, output: str, settings: IncusSettings) -> LabError:
    """The error for what a client printed; `what` is what was asked for."""
    lines = tuple(line.strip() for line in output.splitlines() if line.strip())
    said = lines[-1].removeprefix("Error: ") if lines else "it gave no reason"
    values = {
        "remote": settings.remote,
        "project": settings.project,
        "said": said,
        "what": what,
    }
    for rule in _RULES:
        if rule.pattern.search(output):
            error = rule.make(rule.message.format(**values), rule.hint.format(**values))
            error.details = lines[-5:]
            return error
    return DriverFailed(
        f"incus, {what}: {said}",
        f"see `incus operation list {settings.remote}:` and the log of Incus",
        lines[-5:],
    )
