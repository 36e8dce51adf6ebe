"""What every test gets: a clean environment, and state that is nobody else's."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A slow laptop is not a wrong answer. The default profile is the parent because Hypothesis makes
# it a repeatable one by itself where CI is set.
hypothesis.settings.register_profile("labctl", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("labctl")

# Each changes what labctl prints, or sends its loopback requests elsewhere.
CLEANED = (
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "PY_COLORS",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)

# Labs of several tests run side by side, each in a state directory of its own. While one kills what
# listens on a documented port, another would take that port: so none gets any of them.
DOCUMENTED_PORTS = (3000, 5200, 8080, *range(5001, 5006), *range(5101, 5106))
HELD = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """Hold the documented ports as long as the tests run; what is taken already is left alone."""
    # A shell has what it runs in the background ignore both, and every child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    held = config.stash[HELD] = contextlib.ExitStack()
    if hasattr(config, "workerinput"):
        return  # whoever began the workers outlives them
    for port in DOCUMENTED_PORTS:
        with contextlib.suppress(OSError):
            held.enter_context(socket.create_server(("127.0.0.1", port)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let them go."""
    config.stash[HELD].close()


def clean(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Take the caller's settings away and give labctl a state directory below ``home``."""
    for name in list(os.environ):
        if name.upper() in CLEANED or name.startswith("LABCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(home / "state"))


@pytest.fixture(scope="session", autouse=True)
def _clean_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clean for fixtures that outlive a test: they are made before the test's own cleaning."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clean(monkeypatch, tmp_path_factory.mktemp("session"))
        yield


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Clean for one test. The directory is not below tmp_path: socket paths must stay short."""
    clean(monkeypatch, tmp_path_factory.mktemp("lab"))
