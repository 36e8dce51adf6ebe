"""The drain flag and its file."""

from pathlib import Path

import pytest

from agent.metrics.drain import DrainState

BOOT = 1_800_000_000.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drain.json"


def test_a_node_is_active_until_told(path: Path):
    assert not DrainState(path, BOOT).draining
    assert not path.exists()


def test_outlives_the_service_and_clears(path: Path):
    state = DrainState(path, BOOT)
    state.set(True)
    state.set(True)
    assert state.draining
    assert DrainState(path, BOOT).draining
    DrainState(path, BOOT).set(False)
    assert not DrainState(path, BOOT).draining


def test_does_not_outlive_the_node(path: Path):
    DrainState(path, BOOT).set(True)
    assert not DrainState(path, BOOT + 60).draining
    assert DrainState(path, BOOT + 1.5).draining  # the time of day was adjusted meanwhile


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"draining": 1}', '{"draining": true}']
)
def test_a_file_that_is_not_ours_means_active(path: Path, content: str):
    path.write_text(content)
    state = DrainState(path, BOOT)
    assert not state.draining
    state.set(True)
    assert DrainState(path, BOOT).draining
