"""What is remembered of one nginx over a restart of the scaler: one atomic JSON file."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from control_node.balancer.model import Backends
from control_node.balancer.workers import Worker
from labcore import codec, files
from labcore.codec import WireError

log = logging.getLogger(__name__)

# nginx may answer with an earlier generation only while a newer one is refused, so few are enough.
REMEMBERED = 8


@dataclass(frozen=True)
class Known:
    """The backends of a generation that nginx may answer with."""

    generation: str
    backends: Backends


@dataclass(frozen=True)
class State:
    """See the module. Written before the configuration it speaks of."""

    submitted: str | None = None
    digest: str | None = None  # of the nginx.conf we wrote; another one was edited by somebody
    old_workers: tuple[Worker, ...] = ()  # all that ran before the last reload
    known: tuple[Known, ...] = ()  # newest first

    def backends_of(self, generation: str | None) -> Backends | None:
        """The backends of a generation, if it is remembered."""
        found = (k.backends for k in self.known if k.generation == generation)
        return next(found, None)

    def remembering(self, generation: str, backends: Backends) -> tuple[Known, ...]:
        """`known` with one more."""
        sorted_backends = {group: tuple(sorted(m)) for group, m in backends.items() if m}
        others = tuple(k for k in self.known if k.generation != generation)
        return (Known(generation, sorted_backends), *others)[:REMEMBERED]

    def write(self, path: Path) -> None:
        """Replace the file. Raises OSError."""
        files.write_json(path, codec.encode(self))


def read_state(path: Path) -> State:
    """What the file says; the empty State if there is none or it cannot be read."""
    try:
        value = files.read_json(path)
        return State() if value is None else codec.decode(State, value)
    except (OSError, ValueError, WireError) as error:
        log.warning("%s is not readable, beginning anew: %s", path, error)
        return State()


def digest_of(content: bytes) -> str:
    """The digest that `State.digest` holds."""
    return hashlib.sha256(content).hexdigest()
