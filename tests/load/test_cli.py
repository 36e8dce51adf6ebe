"""`labctl load` as a user runs it: result on stdout, progress on stderr, an exit code."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from labcore.clock import SystemClock
from labcore.codec import decode
from labcore.waiting import NotYet, wait_until
from labctl.cli.main import main
from labctl.load.types import LoadReport
from tests.load import servers

RUN = "from labctl.cli.main import run; run()"


def test_a_run_as_json(capsys: pytest.CaptureFixture[str]):
    with servers.serving(servers.well) as peer:
        arguments = ["load", peer.url, "--ramp", "0:40:500ms,20:500ms", "--method", "post"]
        code = main([*arguments, "--path", "/work?ms=1", "--body", "x", "-o", "json"])
    out, err = capsys.readouterr()
    report = decode(LoadReport, json.loads(out))
    assert code == 0
    assert report.sent == report.answered == 20
    assert peer.requests == ["POST /work?ms=1 HTTP/1.1"] * 20
    assert "20 requests in 1 s" in err


def test_a_run_as_a_table(capsys: pytest.CaptureFixture[str]):
    with servers.serving(servers.well) as peer:
        assert main(["load", peer.url, "--rps", "20", "--duration", "500ms"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["sent"][1] == rows["ok"][1] == rows["agent-1"][1] == "10"
    assert rows["failed"][1] == "0"


@pytest.mark.parametrize(
    ("status", "conditions", "code"),
    [
        (200, ["failed>0", "p95_ms>9000"], 0),
        (503, ["failed>0"], 1),
        (503, ["p95_ms>9000"], 0),
        (404, ["failed>0"], 0),
        (404, ["rejected>=5", "ok>0"], 1),
    ],
)
def test_conditions_decide_the_exit_code(status: int, conditions: list[str], code: int):
    asked = [word for text in conditions for word in ("--fail-on", text)]
    with servers.serving(servers.says(status)) as peer:
        assert main(["load", peer.url, "--rps", "20", "--duration", "250ms", *asked]) == code


def test_no_answer_at_all_is_a_failure_without_any_condition(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    assert main(["load", url, "--rps", "20", "--duration", "250ms"]) == 1
    out, err = capsys.readouterr()
    assert "connect-refused: 5" in out
    assert "no request was answered" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1/", "--steps", "5:1s", "--rps", "5"], "leave --rps and --duration out"),
        (["http://127.0.0.1/", "--lab", "x"], "say only one of them"),
        (["http://127.0.0.1/", "--path", "work"], "does not begin with /"),
        (["http://127.0.0.1/", "--fail-on", "speed>1"], "not understood"),
        (["http://127.0.0.1/", "--duration", "soon"], "not a duration"),
        (["127.0.0.1:80"], "not an HTTP URL"),
    ],
)
def test_what_cannot_be_meant(arguments, words, capsys: pytest.CaptureFixture[str]):
    assert main(["load", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_any_lab_there_is_no_target(capsys: pytest.CaptureFixture[str]):
    assert main(["load"]) == 3
    assert "there is no lab" in capsys.readouterr().err


@pytest.mark.local
def test_ctrl_c_stops_sending_and_still_tells_the_whole_account():
    with servers.serving(servers.well) as peer:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "load", peer.url, "--duration", "60m", "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def probe() -> None:
            if len(peer.requests) < 5:
                raise NotYet

        wait_until(probe, name="five requests", limit_s=30, clock=SystemClock())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    report = decode(LoadReport, json.loads(out))
    assert process.returncode == 130
    assert report.stopped
    assert report.sent == report.ok == len(peer.requests)
    assert "Traceback" not in err
