"""What is left of labs that are gone: processes here, machines in back ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from labcore.errors import LabError
from labctl.diagnosis.check import Check
from server_manager.paths import StatePaths


def examine(paths: StatePaths) -> Iterator[Check]:
    """Nothing is said where nobody knows which labs there are."""
    known = _known_labs(paths)
    yield _processes(paths, known)


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


def _processes(paths: StatePaths, known: Sequence[str] | None) -> Check:
    found = leftovers(paths.labs, known, _command_lines()) if known is not None else []
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
