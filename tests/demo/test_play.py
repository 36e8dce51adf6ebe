"""The demo for real: driver local, real nginx, real scaler, real load."""

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.errors import NotFound, TimedOut
from labctl import blueprints, session, wish
from labctl.demo.play import Play
from labctl.demo.settings import SETTINGS, Script
from labctl.report.story import summarise
from server_manager import labfile, starter
from tests.e2e.conftest import fresh_hands
from tests.e2e.harness import Hands

pytestmark = [pytest.mark.local, pytest.mark.slow]

QUICK = ("scaling.interval_s=1", "scaling.cooldown_out_s=1", "scaling.cooldown_in_s=2")


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    with fresh_hands(tmp_path, "local", None) as found:
        yield found


class Listener:
    """A narrator that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def act(self, at_s, title):
        self.lines.append(title)

    def tell(self, at_s, text):
        self.lines.append(text)

    def picture(self, at_s, status, load):
        pass


def test_an_agent_joins_and_leaves_and_nothing_is_lost(hands: Hands):
    sets = [word for setting in QUICK for word in ("--set", setting)]
    done = hands.try_("demo", *sets, "-o", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    data = json.loads((hands.state / "demo-report.json").read_text())
    assert {name: data[name] for name in summary} == summary
    assert summary["scale_out"] == summary["scale_in"] >= 1
    assert summary["requests_failed"] == 0
    assert summary["requests_sent"] > 200
    for words in ("the scaler decides", "agent-3 serves", "agent-3 drains", "lab demo is gone"):
        assert words in done.stderr
    page = (hands.state / "demo-report.html").read_text()
    assert f"{summary['requests_sent']:,} requests lost" in page
    assert not list((hands.state / "labs").glob("*"))


def test_ctrl_c_removes_the_lab_and_leaves_a_report(hands: Hands):
    with hands.start("demo", "--report", "stopped.html") as process:
        assert process.stderr is not None
        heard = list(itertools.takewhile(lambda line: "load rises to" not in line, process.stderr))
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, heard
    data = json.loads((hands.state / "stopped.json").read_text())
    assert data["problem"] == "the demo was interrupted"
    assert data["requests_failed"] == 0
    assert (hands.state / "stopped.html").exists()
    assert not list((hands.state / "labs").glob("*"))


def test_when_no_agent_joins_it_says_so_and_cleans_up():
    here = session.connect()
    try:
        settings = (*SETTINGS, *QUICK, "scaling.max=2")
        text = blueprints.text(blueprints.DEFAULT)
        file = labfile.parse(text, "blueprint", settings, lab="stuck")
        listener = Listener()
        wanted = wish.make(here, file, "blueprint", "local")
        play = Play(here, wanted, settings, listener, Script(out_limit_s=3, settle_s=1, ramp_s=1))
        recording, problem = play.perform()
        play.destroy()
        with pytest.raises(NotFound):
            here.manager.lab("stuck")
    finally:
        starter.stop(here.paths, here.clock)
    assert isinstance(problem, TimedOut)
    assert "an agent to join: not within 3 s" in problem.message
    summary = summarise(recording)
    assert not summary.succeeded
    assert (summary.scale_out, summary.problem) == (0, problem.message)
    assert recording.load is not None
    assert "lab stuck is gone" in listener.lines
