"""Real labs: each test has a state directory of its own, and leaves nothing behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.harness import Hands


@contextlib.contextmanager
def fresh_hands(home: Path) -> Iterator[Hands]:
    """labctl with a fresh state directory; what a failed test leaves is ended, by pid."""
    state = home / "state"
    state.mkdir(mode=0o700)
    hands = Hands(state)
    try:
        yield hands
    finally:
        for lab in sorted(p.name for p in (state / "labs").glob("*")):
            hands.try_("destroy", "--lab", lab, "--yes")
        hands.try_("server", "stop")
        for process in hands.marked_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """labctl with a state directory of this test's own."""
    with fresh_hands(tmp_path) as hands:
        yield hands


@pytest.fixture(scope="module")
def one_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    """A lab `t` that is up, for tests that only look or are refused."""
    with fresh_hands(tmp_path_factory.mktemp("one")) as hands:
        hands.up("t")
        yield hands
