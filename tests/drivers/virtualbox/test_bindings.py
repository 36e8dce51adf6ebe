"""The quick look at all machines: right, bounded, and never needed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.clock import FakeClock, SystemClock
from labcore.errors import TimedOut
from labcore.files import write_atomic
from labcore.waiting import NotYet, wait_until
from server_manager.drivers.virtualbox.bindings import AGAIN_S, PYTHON_VARIABLE, Bindings, parse
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import INACCESSIBLE, Machine
from tests.contract.rigs import make_spec
from tests.contract.virtualbox_rigs import cloned_driver, fake_library, real_library

SAID = (
    '[["id-1", "demo-agent-1", "Paused", "/a.vbox", "/Logs", ""],'
    ' ["id-2", "", "", "/b.vbox", "", "no such file"]]'
)
Make = Callable[..., Bindings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Bindings whose Python is a script: it is told lines, as the helper is."""

    def made(body: str, clock: FakeClock | None = None) -> Bindings:
        python = tmp_path / "python"
        write_atomic(python, f"#!/bin/sh\n{body}\n", mode=0o700)
        return Bindings(os.defpath, {PYTHON_VARIABLE: str(python)}, clock or FakeClock())

    return made


def known(bindings: Bindings) -> tuple[Machine, ...]:
    def probe() -> tuple[Machine, ...]:
        found = bindings.machines()
        if found is None:
            raise NotYet("no helper yet")
        return found

    return wait_until(probe, name="the helper", limit_s=10.0, clock=SystemClock())


def test_what_a_helper_tells_is_what_a_list_would():
    paused, broken = parse(SAID)
    assert paused == Machine("id-1", "demo-agent-1", "paused", "/a.vbox", "/Logs")
    assert (broken.state, broken.problem) == (INACCESSIBLE, "no such file")


def test_the_first_look_does_not_wait_for_it(make: Make):
    bindings = make(f"while read line; do echo '{SAID}'; done")
    assert bindings.machines() is None
    assert [m.uuid for m in known(bindings)] == ["id-1", "id-2"]


def test_where_no_python_has_them_vboxmanage_is_asked(make: Make, tmp_path: Path):
    vbox = fake_library(tmp_path)().vbox
    bindings = make("exit 1")
    assert Library(vbox, bindings).all() == Library(vbox).all()


@pytest.mark.parametrize("end", ["sleep 60", "exit 1", "echo nonsense"])
def test_one_that_hangs_dies_or_lies_is_given_up_and_tried_again_later(make: Make, end: str):
    clock = FakeClock()
    bindings = make(f"read line; echo '[]'; read line; echo '{SAID}'; read line; {end}", clock)
    assert len(known(bindings)) == 2
    assert bindings.machines() is None
    assert bindings._helper is None
    assert bindings.machines() is None
    assert not bindings._is_beginning
    clock.advance(AGAIN_S)
    assert len(known(bindings)) == 2


def test_a_state_that_nobody_knows_is_not_guessed():
    with pytest.raises(ValueError, match="FirstOnline"):
        parse(SAID.replace("Paused", "FirstOnline"))


@pytest.mark.virtualbox
def test_both_ways_tell_the_same_of_every_state(tmp_path: Path):
    bindings = Bindings(os.environ["PATH"], os.environ, SystemClock())
    try:
        known(bindings)
    except TimedOut:
        pytest.skip("no Python on PATH has the bindings of VirtualBox")
    library = Library(real_library(tmp_path)().vbox)
    spec = make_spec("agent-1")

    def told() -> str:
        quick, slow = ({m.uuid: m for m in ms} for ms in (known(bindings), library.all()))
        assert quick == slow
        return next(m.state for m in quick.values() if m.name == "contract-agent-1")

    with cloned_driver(tmp_path, lambda: library) as driver:
        driver.create(spec)
        assert told() == "poweroff"
        driver.start(spec.ref)
        assert told() == "running"
        driver.pause(spec.ref)
        assert told() == "paused"
        driver.destroy(spec.ref)
