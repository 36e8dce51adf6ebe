"""How a command and a look at the logs reach a node; ssh will be the second way."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence

from labcore.commands import run_attached
from labcore.errors import DriverUnusable, LabError, NotFound
from labcore.wire.lab import Lab, Server
from labctl import wish
from labctl.session import Session

_REFRESH_S = 1.0
_MOST_LINES = 1000


def execute(session: Session, lab: Lab, node: str, command: Sequence[str]) -> int:
    """Run a command on a node, on our own terminal; its exit code.

    Where nodes are processes of this machine it runs in the node's folder, with the variables
    that the node's services have. Raises NotFound, DriverUnusable.
    """
    server = find(lab, node)
    if _access(session, lab.driver) != "local":
        raise DriverUnusable(f"driver {lab.driver} cannot run commands on a node yet")
    folder = session.paths.lab(lab.lab) / "nodes" / node
    if not folder.is_dir():
        raise NotFound(f"{node} does not exist yet", f"labctl start {node} makes it")
    environment = {
        "LABCTL_LAB": lab.lab,
        "LABCTL_NODE": node,
        "LABCTL_REGION": server.region,
        "LABCTL_STATE_DIR": str(session.paths.root),
    }
    return run_attached(command, env=environment, cwd=folder)


def find(lab: Lab, node: str) -> Server:
    """The server of that name; raises NotFound with the known ones."""
    for server in lab.servers:
        if server.name == node:
            return server
    known = ", ".join(server.name for server in lab.servers) or "none"
    raise NotFound(f"lab {lab.lab!r} has no node {node!r}", f"nodes: {known}")


def logs(
    session: Session, lab: Lab, node: str, service: str | None, lines: int, *, follow: bool
) -> Iterator[str]:
    """The last lines of a node's log; with `follow`, what comes after them too, without end.

    Without a service: of all services, each line behind the name of its own.
    """
    yield from _lines(session, lab.lab, node, service, lines)
    if not follow:
        return
    group = lab.group(find(lab, node).group)
    services = (service,) if service or group is None else group.services
    seen = {name: _lines(session, lab.lab, node, name, _MOST_LINES) for name in services}
    while True:
        session.clock.sleep(_REFRESH_S)
        for name in services:
            now = _lines(session, lab.lab, node, name, _MOST_LINES)
            for line in behind(seen[name], now):
                yield line if service else f"{name} | {line}"
            seen[name] = now


def behind(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The lines that `new` has behind those of `old`, when both are the end of one growing log.

    Nothing in common: all of `new`.
    """
    for gone in range(len(old) + 1):
        kept = list(old[gone:])
        if list(new[: len(kept)]) == kept:
            return list(new[len(kept) :])
    return list(new)


def _lines(
    session: Session, lab: str, node: str, service: str | None, lines: int
) -> tuple[str, ...]:
    query = urllib.parse.urlencode({"lines": lines, **({"service": service} if service else {})})
    answer = session.manager.request("GET", f"/servers/{lab}/{node}/logs?{query}")
    given = answer.get("lines") if isinstance(answer, dict) else None
    if not isinstance(given, list):
        raise LabError(f"the log of {node} has no lines")
    return tuple(str(line) for line in given)


def _access(session: Session, driver: str) -> str:
    for entry in wish.drivers(session):
        if entry.get("name") == driver:
            return str((entry.get("capabilities") or {}).get("access", ""))
    return ""
