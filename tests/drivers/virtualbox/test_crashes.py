"""The driver dies at every single call of VBoxManage, before it and after it: nothing is lost."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from labcore.clock import SystemClock
from labcore.commands import Result
from labcore.wire.lab import PowerState
from server_manager.drivers.virtualbox.fake.program import answer
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.vboxmanage import VBoxManage
from tests.contract.rigs import make_spec
from tests.contract.virtualbox_rigs import cloned_driver, fake_library, remains, world

MOST_CALLS = 60


class Killed(BaseException):
    """What kill -9 is to code that runs: it is not there to notice."""


class Guillotine:
    """Runs the fake until its calls are used up; then dies before or after the next change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left: int | None = None
        self.after = False

    def run(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str]) -> Result:
        dies = self.left == 0
        if self.left is not None:
            self.left -= 1
        if dies and not self.after:
            raise Killed
        result = answer(argv[1:], world(self.root))
        if dies:
            raise Killed
        return result


@pytest.fixture
def guillotine(tmp_path):
    return Guillotine(tmp_path)


@pytest.fixture
def driver(tmp_path, guillotine):
    vbox = VBoxManage("VBoxManage", lock=tmp_path / "lock", clock=SystemClock(), run=guillotine.run)
    with cloned_driver(tmp_path, lambda: Library(vbox)) as made:
        yield made
        guillotine.left = None


def library_of(root: Path) -> Library:
    return fake_library(root)()


def dies_at_each_call(guillotine: Guillotine, after: bool, work: Callable[[], None]) -> int:
    """Begin the work again and again, each time dying one call later; how often it died."""
    guillotine.after = after
    for calls in range(MOST_CALLS):
        guillotine.left = calls
        try:
            work()
        except Killed:
            continue
        finally:
            guillotine.left = None
        return calls
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_create_goes_on_after_dying_at_each_call(driver, guillotine, after):
    spec = make_spec()

    def make() -> None:
        if driver.get(spec.ref).state is PowerState.ERROR:  # what the core does with one
            driver.destroy(spec.ref)
        driver.create(spec)

    assert dies_at_each_call(guillotine, after, make) > 10
    driver.start(spec.ref)
    assert driver.get(spec.ref).state is PowerState.RUNNING


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("calls", range(18))
def test_destroy_removes_all_that_a_death_during_create_left(
    driver, guillotine, tmp_path, calls, after
):
    spec = make_spec()
    guillotine.left, guillotine.after = calls, after
    with contextlib.suppress(Killed):
        driver.create(spec)
    guillotine.left = None
    driver.destroy(spec.ref)
    assert driver.get(spec.ref).state is PowerState.ABSENT
    assert remains(tmp_path / "labs", library_of(tmp_path)) == []
    assert list((tmp_path / "labs").glob("*/nodes/*")) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_destroy_goes_on_after_dying_at_each_call(driver, guillotine, tmp_path, after):
    spec = make_spec()
    driver.create(spec)
    driver.start(spec.ref)
    assert dies_at_each_call(guillotine, after, lambda: driver.destroy(spec.ref)) > 3
    assert remains(tmp_path / "labs", library_of(tmp_path)) == []
    assert list((tmp_path / "labs").glob("*/nodes/*")) == []
