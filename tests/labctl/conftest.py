"""labctl in this process, a double behind it, and a directory of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl.cli.main import main
from tests.labctl.double import Double


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Labctl = Callable[..., Done]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labctl(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> Labctl:
    """Runs a command; nobody looks at what it says."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Done:
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def double(here: Path) -> Iterator[Double]:
    """A server-manager with lab demo and its scaler."""
    double = Double()
    double.start()
    yield double
    double.stop()
