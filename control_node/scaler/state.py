"""What the scaler remembers over a restart: cooldowns, the removal in progress, the last lab."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control_node.policies.types import History
from control_node.scaler.breaker import Breaker
from labcore.codec import decode, encode
from labcore.errors import LabError
from labcore.files import read_json, write_json
from labcore.wire.lab import Lab
from labcore.wire.scaler import Decision, Removal, RemovalStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemovalMemory:
    """A removal in progress. `step` is the one that is being made true; those before it are."""

    node: str
    group: str
    step: RemovalStep
    began_at: str  # RFC 3339
    since: float  # when this step was begun
    reason: str

    def wire(self) -> Removal:
        """The same as it stands in the status."""
        return Removal(self.node, self.group, self.step, self.began_at, self.reason)


@dataclass(frozen=True)
class GroupMemory:
    """What is remembered of one group."""

    history: History = field(default_factory=History)
    evaluated: float | None = None
    last_decision: Decision | None = None
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True)
class State:
    """One JSON file. Times in it are monotonic, and so are worth nothing after a reboot."""

    decision_seq: int = 0
    groups: Mapping[str, GroupMemory] = field(default_factory=dict)
    removal: RemovalMemory | None = None
    lab: Lab | None = None
    saved: float = 0.0

    def of_group(self, group: str) -> GroupMemory:
        """What is remembered of one group."""
        return self.groups.get(group, GroupMemory())

    def with_group(self, group: str, memory: GroupMemory) -> State:
        """A copy in which one group is remembered differently."""
        return dataclasses.replace(self, groups={**self.groups, group: memory})


class Store:
    """The state file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, now: float) -> State:
        """The saved state, or an empty one if there is none or it cannot be read.

        An unreadable file (another version's, say) costs cooldowns and nothing else: all the rest
        is derived again from what runs. After a reboot the monotonic clock began anew; then
        cooldowns and the drain in progress begin anew too.
        """
        try:
            raw = read_json(self.path)
            state = State() if raw is None else decode(State, raw)
        except (ValueError, LabError) as error:
            log.warning("%s cannot be read, beginning anew: %s", self.path, error)
            return State()
        return state if state.saved <= now else _rebooted(state, now)

    def save(self, state: State, now: float) -> None:
        """Write it, whole or not at all. Raises OSError."""
        write_json(self.path, encode(dataclasses.replace(state, saved=now)), mode=0o600)


def _rebooted(state: State, now: float) -> State:
    groups = {
        name: dataclasses.replace(memory, history=_only_cooldowns(memory.history, now))
        for name, memory in state.groups.items()
    }
    groups = {
        name: dataclasses.replace(m, evaluated=None, breaker=m.breaker.rebooted())
        for name, m in groups.items()
    }
    removal = state.removal and dataclasses.replace(state.removal, since=now)
    return dataclasses.replace(state, groups=groups, removal=removal, saved=now)


def _only_cooldowns(history: History, now: float) -> History:
    return History(
        last_out_at=None if history.last_out_at is None else now,
        last_in_at=None if history.last_in_at is None else now,
    )
