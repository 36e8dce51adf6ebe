"""Virtual time: an event queue, and tasks whose blocking calls are events of it.

The code under test blocks: it sleeps on its clock and waits for answers. So each task has a thread,
but a baton goes round: one thread runs at a time, and only the queue says which one is next. What
happens is a function of the seed alone, whatever the machine does.
"""

from __future__ import annotations

import _thread
import heapq
import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from labcore.clock import FakeClock
from labcore.errors import LabError, Unreachable

T = TypeVar("T")
MOST_AT_ONCE = 20_000  # events and waits at one moment: more of them means that time stands still


class Killed(BaseException):
    """The process that runs this code has died. Not an Exception: nobody may handle it."""


class Broken(BaseException):
    """Something that must hold does not. Not an Exception, either."""


class Process:
    """Something that can die with all that it is doing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: dict[Task, None] = {}  # ordered: sets of objects are not the same each time
        self.callers: dict[Answer[Any], None] = {}


@dataclass(eq=False)
class Task:
    """One flow of control of a process. `cause` says on whose behalf it runs."""

    process: Process
    cause: str
    work: Callable[[], None]
    worker: _Worker | None = None
    waits: int = 0  # which of its waits is on: a wake-up for an earlier one is late


@dataclass(eq=False)
class Answer(Generic[T]):
    """What a call will return or raise, and who waits for it."""

    value: list[T] = field(default_factory=list)
    error: LabError | None = None
    waiting: tuple[Task, int] | None = None

    @property
    def is_there(self) -> bool:
        """Whether it has come."""
        return bool(self.value) or self.error is not None


class _Worker:
    """A thread that runs one task after another, and only while it has the baton."""

    def __init__(self) -> None:
        self.go = _thread.allocate_lock()
        self.go.acquire()
        self.back = _thread.allocate_lock()
        self.back.acquire()
        self.work: Callable[[], None] = lambda: None
        threading.Thread(target=self._run, name="simulated", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            self.work()
            self.back.release()

    def switch(self) -> None:
        """Give it the baton; returns when it gives it back."""
        self.go.release()
        self.back.acquire()

    def suspend(self) -> None:
        """Of its own thread: give the baton back; returns when it comes again."""
        self.back.release()
        self.go.acquire()


_idle: list[_Worker] = []  # threads are kept for the next simulation


class VirtualClock(FakeClock):
    """The loop's time. Sleeping lets everything else happen meanwhile."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        self._loop.sleep(seconds)


class Lock(AbstractContextManager[None]):
    """A lock that a task may take again; others wait on the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._owner: Task | None = None
        self._depth = 0

    def __enter__(self) -> None:
        while self._owner not in (None, self._loop.current):
            self._loop.sleep(0.05)
        self._owner = self._loop.current
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None


class Loop:
    """The event queue."""

    def __init__(self) -> None:
        self.clock = VirtualClock(self)
        self.current: Task | None = None
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._until = 0.0
        self._moment, self._at_once = 0.0, 0
        self._failure: BaseException | None = None
        self._processes: list[Process] = []

    @property
    def now(self) -> float:
        """Seconds, as the clock tells them."""
        return self.clock.monotonic()

    def process(self, name: str) -> Process:
        """A new process."""
        self._processes.append(Process(name))
        return self._processes[-1]

    def later(self, seconds: float, event: Callable[[], object]) -> None:
        """Let something happen then. It must not sleep."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._numbers), event))

    def spawn(
        self, process: Process, work: Callable[[], None], *, cause: str = "", delay: float = 0.0
    ) -> None:
        """Let a process do something that may sleep."""
        cause = cause or (self.current.cause if self.current else process.name)
        task = Task(process, cause, work)
        process.tasks[task] = None
        self.later(delay, lambda: self._begin(task))

    def _begin(self, task: Task) -> None:
        if not task.process.alive:
            del task.process.tasks[task]
            return
        task.worker = _idle.pop() if _idle else _Worker()
        task.worker.work = lambda: self._work(task)
        self._switch(task)

    def _work(self, task: Task) -> None:
        try:
            task.work()
        except Killed:
            pass
        except BaseException as error:
            self._failure = error

    def _switch(self, task: Task) -> None:
        worker = task.worker
        assert worker is not None
        self.current, before = task, task.waits
        worker.switch()
        self.current = None
        if task.waits == before:  # it did not begin another wait: it has ended
            task.process.tasks.pop(task, None)
            _idle.append(worker)

    def sleep(self, seconds: float) -> None:
        """Of a task: go on after `seconds`. Raises Killed if its process dies meanwhile."""
        task = self._here()
        self._count()
        waits, until = task.waits + 1, self.now + max(0.0, seconds)
        if until <= self._until and not (self._queue and self._queue[0][0] <= until):
            self.clock.advance(max(0.0, seconds))  # nothing happens meanwhile: no need to switch
            return
        self.later(max(0.0, seconds), lambda: self._wake(task, waits))
        self._suspend(task)

    def _count(self) -> None:
        if self.now != self._moment:
            self._moment, self._at_once = self.now, 0
        self._at_once += 1
        if self._at_once > MOST_AT_ONCE:
            raise Broken("time goes on: somebody waits again and again for no time at all")

    def _here(self) -> Task:
        if self.current is None:
            raise RuntimeError("only tasks may sleep")
        if not self.current.process.alive:
            raise Killed
        return self.current

    def _suspend(self, task: Task) -> None:
        task.waits += 1
        assert task.worker is not None
        task.worker.suspend()
        if not task.process.alive:
            raise Killed

    def _wake(self, task: Task, waits: int) -> None:
        if task.waits == waits and task in task.process.tasks:
            self._switch(task)

    def call(
        self, process: Process | None, work: Callable[[], T], *, timeout_s: float, cause: str
    ) -> T:
        """Of a task: let another process do something, and wait for what comes of it.

        Raises what `work` raises, and Unreachable if the process is or falls dead, or is too slow.
        """
        task = self._here()
        if process is None or not process.alive:
            raise Unreachable("connection refused")
        answer: Answer[T] = Answer(waiting=(task, task.waits + 1))
        process.callers[answer] = None
        self.spawn(process, lambda: self._answer(answer, work), cause=cause)
        late = task.waits + 1
        self.later(timeout_s, lambda: self._wake(task, late))
        self._suspend(task)
        process.callers.pop(answer, None)
        if answer.error is not None:
            raise answer.error
        if not answer.value:
            raise Unreachable(f"no answer within {timeout_s:g} s")
        return answer.value[0]

    def _answer(self, answer: Answer[T], work: Callable[[], T]) -> None:
        try:
            answer.value.append(work())
        except LabError as error:
            answer.error = error
        except Exception as error:  # an HTTP server answers 500, whatever happens
            answer.error = LabError(f"internal error: {type(error).__name__}: {error}")
        self._tell(answer)

    def _tell(self, answer: Answer[T]) -> None:
        if answer.waiting is not None:
            task, waits = answer.waiting
            answer.waiting = None
            self.later(0.0, lambda: self._wake(task, waits))

    def gather(self, works: list[Callable[[], T]]) -> list[T]:
        """Of a task: do all, side by side; what they returned."""
        task = self._here()
        answers: list[Answer[T]] = []
        for work in works:
            answer: Answer[T] = Answer()
            answers.append(answer)
            self.spawn(task.process, lambda a=answer, w=work: self._answer(a, w))  # type: ignore[misc]
        for answer in answers:
            if not answer.is_there:
                answer.waiting = (task, task.waits + 1)
                self._suspend(task)
        return [answer.value[0] for answer in answers]

    def kill(self, process: Process) -> None:
        """Let a process die now: its tasks end where they stand, its callers are cut off."""
        process.alive = False
        for task in process.tasks:
            if task is not self.current and task.worker is not None:
                self.later(0.0, lambda t=task, w=task.waits: self._wake(t, w))  # type: ignore[misc]
        for answer in list(process.callers):
            if not answer.is_there:
                answer.error = Unreachable(f"{process.name}: connection reset")
                self._tell(answer)

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that happens up to then, or until it is over."""
        self._until = until
        while self._queue and self._queue[0][0] <= until:
            at, _, event = heapq.heappop(self._queue)
            self.clock.advance(max(0.0, at - self.now))
            self._count()
            event()
            if self._failure is not None:
                raise self._failure
            if is_over():
                return
        self.clock.advance(max(0.0, until - self.now))

    def close(self) -> None:
        """End every task, so that their threads are free. Nothing else happens any more."""
        self._queue.clear()
        for process in self._processes:
            self.kill(process)
        for process in self._processes:
            for task in [t for t in process.tasks if t.worker is not None]:
                self._switch(task)
