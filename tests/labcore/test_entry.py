"""How programs of a node begin and end. That a stop loses nothing is in tests/agent/test_app.py."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from labcore import entry
from labcore.errors import Conflict, UsageProblem
from labcore.wire.node import AGENT_TOKEN, NodeConfig
from tests.agent.running import ROOT, TOKEN, write_config

# A server whose requests never end, with half a second of grace.
STUBBORN = """
import sys, threading
from labcore.clock import SystemClock
from labcore.entry import run, serve
from labcore.web import make_server

def app(environ, start):
    threading.Event().wait(60)

def main(config):
    server = make_server(app, "127.0.0.1:0", most_body_bytes=1)
    serve(server, grace_s=0.5, clock=SystemClock())

sys.exit(run("stubborn", main))
"""


@pytest.mark.local
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_grace_is_not_endless(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, "--config", str(write_config(tmp_path))],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " INFO stubborn: listening on 127.0.0.1:" in line
        host, port = line.split()[-1].split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
        assert "1 connections cut off after 0.5 s" in process.stderr.read()


def test_reads_a_config(tmp_path: Path):
    config = entry.read_config(write_config(tmp_path))
    assert (config.node, config.cpus) == ("agent-1", 1.0)
    assert entry.listen_address(config, "app") == "127.0.0.1:0"
    assert entry.secret(config, AGENT_TOKEN) == TOKEN


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"lab": 1}'])
def test_what_is_no_config(tmp_path: Path, content: bytes):
    path = tmp_path / "node.json"
    path.write_bytes(content)
    with pytest.raises(UsageProblem, match=r"node\.json"):
        entry.read_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b" \n", "is empty"), (b"\xff", "can't decode")],
)
def test_what_is_no_secret(tmp_path: Path, content: bytes | None, message: str):
    config = entry.read_config(write_config(tmp_path))
    path = Path(config.secrets[AGENT_TOKEN])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageProblem, match=message):
        entry.secret(config, AGENT_TOKEN)


def _refuse(config: NodeConfig) -> None:
    raise Conflict(f"{config.node} will not", "ask another")


def _stumble(config: NodeConfig) -> None:
    raise FileNotFoundError(2, "No such file or directory", "x")


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        (lambda config: None, 0, ""),
        (_refuse, 4, "agent-1 will not (ask another)"),
        (_stumble, 1, "No such file or directory"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, program, code: int, message: str
):
    assert entry.run("it", program, ["--config", str(write_config(tmp_path))]) == code
    assert message in "".join(caplog.messages)
    assert len(caplog.messages) == (code != 0)


def test_a_config_is_needed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        entry.run("it", lambda config: None, [])
    assert ended.value.code == 2
    assert "--config" in capsys.readouterr().err
