"""Who runs what takes long: threads in the server-manager, the caller in a simulation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

from labcore.errors import LabError

MOST_AT_ONCE = 16
Task = Callable[[], None]
Lock = AbstractContextManager[object]
_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Keeps threads out of the use cases."""

    def start(self, name: str, task: Task) -> None:
        """Run a task that tells its outcome itself; may return before it ends."""
        ...

    def gather(self, tasks: Sequence[Task]) -> tuple[LabError, ...]:
        """Run all tasks to their end, the first ones first; what those raised that failed."""
        ...

    def lock(self) -> Lock:
        """A new lock that tasks wait for; the task that holds it may take it again."""
        ...


class Threads:
    """Background threads; at most 16 servers are worked on at once for one lab."""

    def start(self, name: str, task: Task) -> None:
        """See Executor."""
        threading.Thread(target=task, name=name, daemon=True).start()

    def gather(self, tasks: Sequence[Task]) -> tuple[LabError, ...]:
        """See Executor."""
        if not tasks:
            return ()
        with ThreadPoolExecutor(min(len(tasks), MOST_AT_ONCE)) as pool:
            return tuple(error for error in pool.map(outcome, tasks) if error is not None)

    def lock(self) -> Lock:
        """See Executor."""
        return threading.RLock()


class Inline:
    """Everything at once, one after the other, in the caller's thread."""

    def start(self, name: str, task: Task) -> None:
        """See Executor."""
        task()

    def gather(self, tasks: Sequence[Task]) -> tuple[LabError, ...]:
        """See Executor."""
        return tuple(error for error in map(outcome, tasks) if error is not None)

    def lock(self) -> Lock:
        """See Executor."""
        return threading.RLock()


def outcome(task: Task) -> LabError | None:
    """What a task raised, if it failed; a fault in the program is logged and told as one."""
    try:
        task()
    except LabError as error:
        return error
    except Exception as error:
        _log.exception("a fault in the program")
        return LabError(f"internal error: {type(error).__name__}", "see the log")
    return None
