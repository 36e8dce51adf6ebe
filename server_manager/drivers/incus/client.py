"""The only thing that runs the `incus` client: JSON by `incus query`, files, commands inside.

Every call is bounded. One that was killed may have been done all the same, as Incus goes on by
itself: whoever changes something looks at the state again. What Incus says is turned into our own
errors, with what to do about it.
"""

from __future__ import annotations

import functools
import json
import shutil
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from labcore import commands
from labcore.commands import Result
from labcore.errors import DriverFailed, DriverUnusable, TimedOut
from labcore.files import write_atomic
from server_manager.drivers.incus.advice import advise
from server_manager.drivers.incus.settings import IncusSettings

PROGRAM = "incus"
# Some 0.05 s, and 20 s while a member of a cluster is silent and nobody has noticed yet.
READ_LIMIT_S = 25.0
CHANGE_LIMIT_S = 60.0
LOCAL = "local"


class Run(Protocol):
    """How programs are run: as `labcore.commands.run` does."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Result:
        """See there."""
        ...


class Stream(Protocol):
    """How a program is run whose lines are told: as `labcore.commands.stream` does."""

    def __call__(
        self,
        argv: Sequence[str],
        tell: Callable[[str], None],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """See there."""
        ...


class Incus:
    """One remote and project. Raises only LabError: see `advice` for which."""

    def __init__(
        self,
        settings: IncusSettings,
        *,
        search_path: str,
        environ: Mapping[str, str],
        run: Run = commands.run,
        stream: Stream = commands.stream,
        home_file: Path | None = None,
    ) -> None:
        self._settings = settings
        self._home_file = home_file
        self._stream = stream
        self._run_program = run
        self._search_path = search_path
        given = {"INCUS_CONF": settings.config} if settings.config else {}
        self._environment = {**environ, **given, "LC_ALL": "C", "LANGUAGE": "C"}

    @functools.cached_property
    def home(self) -> str:
        """The remote where images are made, and labs that name none: that of the first of them,
        else what the client takes. Raises DriverUnusable if there is no client."""
        if self._home_file is not None and self._home_file.exists():
            return self._home_file.read_text().strip()
        result = self._run((self.program(), "remote", "get-default"), None, READ_LIMIT_S)
        return result.stdout.strip() if result.returncode == 0 else LOCAL

    def settle(self) -> None:
        """Something is made at `home`, which stays that, whatever the client is switched to."""
        if self._home_file is not None and not self._home_file.exists():
            self._home_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._home_file, f"{self.home}\n", mode=0o600)

    @functools.cached_property
    def settings(self) -> IncusSettings:
        """What the lab file says, with the name of the remote. Raises as `home` does."""
        return replace(self._settings, remote=self._settings.remote or self.home)

    @property
    def remote(self) -> str:
        """The remote's name, with the colon that follows it in every path."""
        return f"{self.settings.remote}:"

    def program(self) -> str:
        """The client; raises DriverUnusable if there is none."""
        found = shutil.which(PROGRAM, path=self._search_path)
        if found is None:
            raise DriverUnusable(
                "there is no `incus` program on PATH",
                "install the Incus client: https://linuxcontainers.org/incus/docs/main/installing/",
            )
        return found

    def get(self, path: str, *, limit_s: float = READ_LIMIT_S, **query: str) -> Any:
        """The JSON of a path below `/1.0`."""
        return self._query((), path, query, limit_s)

    def change(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        limit_s: float = CHANGE_LIMIT_S,
        **query: str,
    ) -> Any:
        """Change something, wait for its end, and return the JSON that it left."""
        data = () if body is None else ("--data", json.dumps(body))
        return self._query(("-X", method, "--wait", *data), path, query, limit_s)

    def push(self, instance: str, path: str, content: bytes, *, mode: str = "0600") -> None:
        """Write a file of root's in an instance, running or not, with the folders above it."""
        where = f"{self.remote}{instance}{path}"
        options = ("-q", "-p", "--mode", mode, "--uid", "0", "--gid", "0")
        project = ("--project", self.settings.project)
        self.run("file", "push", *options, *project, "-", where, stdin=content)

    def execute(
        self,
        instance: str,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        limit_s: float = READ_LIMIT_S,
    ) -> Result:
        """Run a program in a running instance to its end, whatever that is."""
        return self._run(self.inside(instance, argv), stdin, limit_s)

    def follow(
        self, instance: str, argv: Sequence[str], tell: Callable[[str], None], *, limit_s: float
    ) -> Result:
        """The same, and tell each line that it prints."""
        command = self.inside(instance, argv)
        return self._stream(command, tell, timeout_s=limit_s, env=self._environment)

    def inside(self, instance: str, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs a program in an instance, for those who keep it running."""
        project = ("--project", self.settings.project)
        options = ("-T", "--user", "0", "--group", "0")
        where = f"{self.remote}{instance}"
        return (self.program(), "exec", "-q", *project, *options, where, "--", *argv)

    def run(
        self, *arguments: str, stdin: bytes | None = None, limit_s: float = CHANGE_LIMIT_S
    ) -> str:
        """What any other command of the client prints on stdout."""
        result = self._run((self.program(), *arguments), stdin, limit_s)
        if result.returncode != 0:
            raise advise(f"incus {arguments[0]}", result.stderr or result.stdout, self.settings)
        return result.stdout

    def _query(
        self, options: tuple[str, ...], path: str, query: Mapping[str, str], limit_s: float
    ) -> Any:
        words = urllib.parse.urlencode({"project": self.settings.project, **query})
        where = f"{self.remote}/1.0{path}?{words}"
        result = self._run((self.program(), "query", *options, where), None, limit_s)
        if result.returncode != 0:
            raise advise(path, result.stderr or result.stdout, self.settings)
        try:
            return json.loads(result.stdout) if result.stdout.strip() else None
        except ValueError as error:
            text = tuple(result.stdout.splitlines()[-5:])
            raise DriverFailed(f"incus answered no JSON for {path}", "incus version", text) from (
                error
            )

    def _run(self, argv: tuple[str, ...], stdin: bytes | None, limit_s: float) -> Result:
        try:
            return self._run_program(argv, timeout_s=limit_s, env=self._environment, stdin=stdin)
        except TimedOut as error:
            raise TimedOut(
                f"`incus {argv[1]}` on remote {self.settings.remote!r} did not end within"
                f" {limit_s:g} s",
                f"a member of the cluster may be silent, or too many to go on: `incus cluster list"
                f" {self.remote}` and `incus operation list {self.remote}` show it; then try again",
            ) from error
