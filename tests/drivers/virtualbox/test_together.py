"""One call answers all who asked before it began, and never one who asked later."""

import threading

import pytest

from labcore.errors import DriverFailed
from server_manager.drivers.virtualbox.together import Together


def test_those_who_ask_while_one_runs_share_the_next():
    together: Together[int] = Together()
    calls, first_runs, go_on = [], threading.Event(), threading.Event()

    def call() -> int:
        calls.append(1)
        if len(calls) == 1:
            first_runs.set()
            assert go_on.wait(10)
        return len(calls)

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(together.ask(call)))]
    threads[0].start()
    assert first_runs.wait(10)
    for _ in range(5):
        threads.append(threading.Thread(target=lambda: answers.append(together.ask(call))))
        threads[-1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert answers.count(1) == 1  # the first answer is older than the others' questions
    assert len(calls) <= 6
    assert together.ask(call) == len(calls)


def test_a_failure_is_everybodys_and_the_next_call_is_made():
    together: Together[int] = Together()

    def fail() -> int:
        raise DriverFailed("no")

    with pytest.raises(DriverFailed):
        together.ask(fail)
    assert together.ask(lambda: 7) == 7
