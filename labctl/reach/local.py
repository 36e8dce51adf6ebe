"""Nodes that are processes of this machine: their folder is the way in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from labcore.commands import run_attached
from labcore.errors import LabError, NotFound
from labcore.wire.lab import Lab, Server
from labctl.placing import own_name, place
from labctl.reach import check_service, outside, services_of
from labctl.session import Session
from labctl.ui import plain


class LocalNode:
    """See Reach."""

    def __init__(self, session: Session, lab: Lab, server: Server) -> None:
        self._session = session
        self._lab = lab
        self._server = server

    def execute(self, command: Sequence[str]) -> int:
        """See Reach: in the node's folder, with the variables that its services have."""
        environment = {
            "LABCTL_LAB": self._lab.lab,
            "LABCTL_NODE": self._server.name,
            "LABCTL_REGION": self._server.region,
            "LABCTL_STATE_DIR": str(self._session.paths.root),
        }
        return run_attached(command, env=environment, cwd=self._folder())

    def log_in(self, command: Sequence[str]) -> int:
        """See Reach."""
        shell = os.environ.get("SHELL") or "/bin/sh"
        if command:
            return self.execute([shell, "-c", " ".join(command)])
        plain.note(
            f"{self._server.name} is a set of processes of this machine: a shell in its folder,"
            " exit leaves it"
        )
        return self.execute([shell])

    def logs(self, service: str | None, lines: int, *, follow: bool) -> Iterator[str]:
        """See Reach."""
        if service == "console":
            raise NotFound(f"{self._server.name} has no console", "labctl logs NODE shows all")
        check_service(self._lab, self._server, service)
        where = (self._session, self._lab.lab, self._server.name)
        yield from outside.lines_of(*where, service, lines)
        if follow:
            sources = (service,) if service else services_of(self._lab, self._server)
            for source, line in outside.growth(*where, sources):
                yield line if service else f"{source} | {line}"

    def put(self, source: Path, path: str) -> str:
        """See Reach."""
        target = self._folder() / path
        parent, name = place(
            str(target) + "/" * path.endswith("/"), source.resolve().name, is_folder=target.is_dir()
        )
        return str(_copy(source, Path(parent, name)))

    def get(self, path: str, target: Path) -> Path:
        """See Reach."""
        name = own_name(path)
        return _copy(self._folder() / path, target / name if target.is_dir() else target)

    def _folder(self) -> Path:
        folder = self._session.paths.lab(self._lab.lab) / "nodes" / self._server.name
        if not folder.is_dir():
            raise NotFound(
                f"{self._server.name} does not exist yet",
                f"labctl start {self._server.name} makes it",
            )
        return folder


def _copy(source: Path, target: Path) -> Path:
    if not source.exists():
        raise NotFound(f"{source} does not exist")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    except (OSError, shutil.Error) as error:
        raise LabError(f"cannot copy {source} to {target}: {error}") from error
    return target
