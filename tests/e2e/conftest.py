"""Real labs: each test has a state directory of its own, and leaves nothing behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labcore.wire.image import Image
from tests.e2e import guests
from tests.e2e.harness import Hands

# The same tests on each: `local` by `make test`, the others where their marker is asked for.
DRIVERS = (
    pytest.param("local", marks=pytest.mark.local),
    pytest.param("incus", marks=pytest.mark.incus),
)


@contextlib.contextmanager
def fresh_hands(home: Path, driver: str, image: Image | None) -> Iterator[Hands]:
    """labctl with a fresh state directory; what a failed test leaves is ended, by pid."""
    state = home / "state"
    state.mkdir(mode=0o700)
    if image is not None:
        guests.know(state, image)
    hands = Hands(state, driver)
    try:
        yield hands
    finally:
        for lab in sorted(p.name for p in (state / "labs").glob("*")):
            hands.try_("destroy", "--lab", lab, "--yes")
        hands.try_("server", "stop")
        for process in hands.marked_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="session")
def incus_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image that labs on Incus are made from."""
    if why := guests.why_no_incus():
        pytest.skip(why)
    return guests.incus_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver, for tests that are the same on all of them."""
    return str(request.param)


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, driver: str) -> Image | None:
    """What labs of the driver are made from, where they are made from something."""
    made: Image | None = request.getfixturevalue("incus_image") if driver == "incus" else None
    return made


@pytest.fixture
def hands(tmp_path: Path, driver: str, image: Image | None) -> Iterator[Hands]:
    """labctl with a state directory of this test's own."""
    with fresh_hands(tmp_path, driver, image) as hands:
        yield hands


@pytest.fixture(scope="module")
def one_lab(
    tmp_path_factory: pytest.TempPathFactory, driver: str, image: Image | None
) -> Iterator[Hands]:
    """A lab `one` that is up, for tests that only look or are refused. Another name than that of
    the tests beside it: on one Incus, labs of several state directories see each other."""
    with fresh_hands(tmp_path_factory.mktemp("one"), driver, image) as hands:
        hands.up("one")
        yield hands
