"""Dies at every step of create and destroy in turn, and looks whether the next call mends it.

Run as a program, because it forks: `python -m tests.drivers.crash_steps <folder>`. A step is an
audit event of the interpreter that changes the file system; the child dies there by os._exit, as if
the machine had lost power with every byte so far on its disk. Prints how many steps there were.
"""

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from labcore.wire.lab import PowerState
from server_manager.drivers.local.driver import LocalDriver
from tests.contract.rigs import make_local, make_spec

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SPEC = make_spec(identity="crash-steps")


def dies_at(step: int, act: Callable[[], None]) -> bool:
    """Run `act` in a child that dies at its nth change; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event not in CHANGES or (event == "open" and not writes(arguments)):
                return
            left -= 1
            if left < 0:
                os._exit(9)

        sys.addaudithook(count)
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 9):
        raise SystemExit(f"step {step}: the child ended with {code}")
    return code == 9


def writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & WRITES)


def check(driver: LocalDriver, when: str, *allowed: PowerState) -> None:
    server = driver.get(SPEC.ref)
    if server.state not in allowed:
        raise SystemExit(f"{when}: {server}")


def run(root: Path, dying: str, mending: str) -> int:
    """`dying` dies at each step in turn, `mending` follows; the number of steps."""
    driver = make_local(root)
    acts = {"create": lambda: driver.create(SPEC), "destroy": lambda: driver.destroy(SPEC.ref)}
    ends = {"create": PowerState.STOPPED, "destroy": PowerState.ABSENT}
    for step in itertools.count():
        if dying == "destroy":
            acts["create"]()
        died = dies_at(step, acts[dying])
        when = f"{dying} died at step {step}"
        check(driver, when, PowerState.ABSENT, PowerState.STOPPED)
        acts[mending]()
        check(driver, f"{when}, then {mending}", ends[mending])
        acts["destroy"]()
        left = [*root.glob("*/nodes/*")]
        if left:
            raise SystemExit(f"{when}, then {mending}: {left} is left")
        if not died:
            return step
    raise AssertionError


def main(root: Path) -> None:
    psutil.pids = list  # this is about files: nothing runs, and looking for it takes the most time
    both = ("create", "destroy")
    steps = sum(run(root, dying, mending) for dying in both for mending in both)
    sys.stdout.write(f"{steps}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
