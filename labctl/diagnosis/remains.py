"""What is left of labs that are gone: processes here, machines in back ends."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from labcore.errors import LabError
from labctl.diagnosis.check import Check
from server_manager.drivers.base import Driver, StrayFinding
from server_manager.paths import StatePaths


def examine(paths: StatePaths, made: Sequence[Driver]) -> Iterator[Check]:
    """By what the server-manager says there is, if one runs."""
    known = _known_labs(paths)
    if known is None:
        text = "not looked for, as no server-manager runs to say which labs there are"
        yield Check("leftovers", "ok", text)
        return
    yield _processes(paths, known)
    for driver in made:
        if isinstance(driver, StrayFinding):
            yield from _strays(driver, known)


def _strays(driver: StrayFinding, known: Collection[str]) -> Iterator[Check]:
    try:
        found = driver.strays(known)
    except LabError:
        return  # its own check says what is wrong with it
    for stray in found:
        text = f"machine {stray.name} is of lab {stray.lab}, which is not known here"
        fix = f"unless another state directory has that lab: {stray.remove}"
        yield Check("leftovers", "warning", text, fix)


def leftovers(
    labs: Path, known: Sequence[str], processes: Sequence[tuple[int, str]]
) -> list[tuple[int, str]]:
    """Of `processes` (pid, command line), those that belong to a lab below `labs` not `known`."""
    prefix = f"{labs}{os.sep}"
    found = []
    for pid, command in processes:
        _, separator, rest = command.partition(prefix)
        lab = rest.split(os.sep, 1)[0].split(" ", 1)[0]
        if separator and lab and lab not in known:
            found.append((pid, lab))
    return found


def _processes(paths: StatePaths, known: Sequence[str]) -> Check:
    found = leftovers(paths.labs, known, _command_lines())
    if not found:
        return Check("leftovers", "ok", "no process of a lab that is gone")
    text = ", ".join(f"{pid} (lab {lab})" for pid, lab in found)
    pids = " ".join(str(pid) for pid, _ in found)
    return Check("leftovers", "bad", f"processes of labs that are gone: {text}", f"kill {pids}")


def _known_labs(paths: StatePaths) -> list[str] | None:
    """The labs there are; None if nobody can say."""
    from labctl.session import running

    if not paths.database.exists():
        return []
    manager = running(paths)
    try:
        return [lab.lab for lab in manager.labs()] if manager else None
    except LabError:
        return None


def _command_lines() -> list[tuple[int, str]]:
    import psutil

    processes = psutil.process_iter(["pid", "cmdline"])
    return [(p.info["pid"], " ".join(p.info["cmdline"] or ())) for p in processes]
