"""The state file: whole, old or none; and times that mean nothing after a reboot."""

import dataclasses

import pytest

from control_node.policies.types import History, Point
from control_node.scaler.state import GroupMemory, RemovalMemory, State, Store

POINT = Point(100.0, {"cpu_percent": 50.0}, 2, 2, 0, 2)
STATE = State(
    decision_seq=7,
    groups={"agent": GroupMemory(History((POINT,), last_out_at=90.0), evaluated=100.0)},
    removal=RemovalMemory("agent-3", "agent", "confirmed", "2026-01-01T00:00:00Z", 95.0, "why"),
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state.json")


def test_no_file_is_an_empty_state(store):
    assert store.load(0.0) == State()


def test_what_was_saved_is_loaded(store):
    store.save(STATE, 100.0)
    assert store.load(130.0) == dataclasses.replace(STATE, saved=100.0)
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_after_a_reboot_cooldowns_and_the_drain_begin_anew(store):
    store.save(STATE, 100.0)
    loaded = store.load(4.0)
    memory = loaded.groups["agent"]
    assert memory.history == History(last_out_at=4.0)
    assert memory.evaluated is None
    assert loaded.removal is not None
    assert (loaded.removal.step, loaded.removal.since) == ("confirmed", 4.0)
    assert loaded.decision_seq == 7


@pytest.mark.parametrize("content", ["", "{", "[]", '{"decision_seq": "x"}', '{"new": 1}'])
def test_a_file_that_cannot_be_read_is_no_state_and_no_end(store, content):
    store.path.write_text(content)
    assert store.load(0.0) == State()
