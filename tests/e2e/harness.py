"""A user's hands and eyes: runs the real `labctl` and looks at what is left on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from labcore.clock import SystemClock
from labcore.http_client import call
from labcore.waiting import NotYet, wait_until

CLOCK = SystemClock()
LABCTL = Path(sys.executable).with_name("labctl")
# A lab that decides nothing by itself unless a test wants it to, and reacts fast.
QUICK = ("--set", "scaling.interval_s=1", "--set", "scaling.mode=manual")


@dataclass
class Hands:
    """Runs labctl with one state directory."""

    state: Path
    driver: str = "local"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin a command; the caller ends it."""
        return subprocess.Popen(
            [str(LABCTL), *arguments],
            env={**os.environ, "LABCTL_STATE_DIR": str(self.state), **environment},
            cwd=self.state,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def try_(
        self, *arguments: str, limit_s: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=limit_s)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def do(self, *arguments: str, limit_s: float = 120, **environment: str) -> str:
        """Run a command that must succeed; its standard output."""
        done = self.try_(*arguments, limit_s=limit_s, **environment)
        assert done.returncode == 0, f"labctl {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self, lab: str, *more: str) -> dict[str, Any]:
        """Stand up a quick lab; its status."""
        self.up_only(lab, *more)
        return self.status(lab)

    def up_only(self, lab: str, *more: str) -> None:
        """Stand up a quick lab."""
        self.do("up", "--lab", lab, "--driver", self.driver, *QUICK, *more)

    def status(self, lab: str) -> dict[str, Any]:
        """`status -o json`."""
        status: dict[str, Any] = json.loads(self.do("status", "--lab", lab, "-o", "json"))
        return status

    def wait_status(self, lab: str, name: str, check: Any, limit_s: float = 30) -> dict[str, Any]:
        """Poll the status until `check(status)` is true."""

        def probe() -> dict[str, Any]:
            status = self.status(lab)
            if not check(status):
                raise NotYet(json.dumps(status))
            return status

        return wait_until(probe, name=name, limit_s=limit_s, clock=CLOCK)

    def token(self) -> str:
        """The admin token."""
        return self.do("server", "token").strip()

    def marked_processes(self) -> list[psutil.Process]:
        """Every process that works for this state directory: its path is on the command line or
        in the environment, or it is in the node's process tree."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            where = [*process.cmdline(), process.environ().get("LABCTL_STATE_DIR", "")]
            return any(str(self.state) in word for word in [*where, process.cwd()])
        except psutil.Error:
            return False

    def service_manager(self) -> psutil.Process:
        """The server-manager's process."""
        found = [p for p in self.marked_processes() if "server_manager" in command_of(p)]
        assert found, "no server-manager"
        return found[0]

    def wait_service(self, node: str, word: str) -> psutil.Process:
        """`service`, once it is there (again)."""

        def probe() -> psutil.Process:
            found = self.service(node, word)
            if found is None:
                raise NotYet("no such process")
            return found

        return wait_until(probe, name=f"{word} of {node}", limit_s=30, clock=CLOCK)

    def service(self, node: str, word: str) -> psutil.Process | None:
        """The process of a node whose command line holds `word`: the topmost one, or None."""
        found = [
            p
            for p in self.marked_processes()
            if any(word in part for part in command_of(p))
            and any(f"/{node}/" in part or part.endswith(f"/{node}") for part in command_of(p))
        ]
        return min(found, key=lambda p: p.create_time(), default=None)


def command_of(process: psutil.Process) -> list[str]:
    """Its command line; nothing once it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def backends(status: dict[str, Any]) -> list[str]:
    """The nodes that nginx routes to."""
    return sorted(status["load_balancer"]["backends"])


def answering_nodes(url: str, requests: int = 40) -> set[str]:
    """Which nodes answer at the load balancer; every answer must be a 200."""
    nodes = set()
    for _ in range(requests):
        status, body = call("GET", f"{url}/")
        assert status == 200, body
        nodes.add(json.loads(body)["node"])
    return nodes
