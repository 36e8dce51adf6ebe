from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh import sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    if sshd.PROGRAM is None:
        pytest.skip("there is no sshd (Debian: openssh-server)")
    started = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield started
    started.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made
