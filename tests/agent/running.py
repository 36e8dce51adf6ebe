"""Programs of a node as real processes, on ports that the kernel chose."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-agent-token"
ANY = "127.0.0.1:0"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Program:
    process: subprocess.Popen[str]
    address: str
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=20)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def stop(self) -> int:
        """Tell it to stop, and wait for its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=40)


def secret_of(folder: Path) -> Path:
    """Where the agent token of a node is."""
    return folder / "secrets" / "agent-token"


def write_config(folder: Path, **changes: object) -> Path:
    """A node config file, with its secret, in a folder of the node."""
    secret = secret_of(folder)
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text(TOKEN + "\n")
    config = {
        "lab": "demo",
        "node": "agent-1",
        "group": "agent",
        "role": "agent",
        "region": "home",
        "cpus": 1.0,
        "memory_mib": 1024,
        "scope": "tree",
        "directory": str(folder),
        "listen": {"app": ANY, "metrics": ANY},
        "secrets": {"agent-token": str(secret)},
        **changes,
    }
    path = folder / "node.json"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def running(
    module: str, config: Path, *, python: tuple[str, ...] = (sys.executable, "-m")
) -> Iterator[Program]:
    """The program, from the moment it listens; killed at the end if it has not ended by itself."""
    with subprocess.Popen(
        [*python, module, "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT if python[-1] == "-m" else config.parent,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            words = line.split()
            if "listening" not in words:
                process.kill()
                raise AssertionError(f"{module} did not start: {line}{process.stderr.read()}")
            yield Program(process, words[-1])
        finally:
            process.kill()
