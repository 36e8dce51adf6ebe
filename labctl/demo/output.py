"""Writes what a demo came to: the page, and beside it the same as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labcore.codec import encode
from labcore.errors import LabError, UsageProblem
from labcore.files import write_atomic, write_json
from labctl.report.page import render
from labctl.report.recording import Recording
from labctl.report.story import summarise


def check_path(page: Path) -> None:
    """Raise UsageProblem if a report cannot be written there; asked before anything begins."""
    if page.suffix not in (".html", ".htm"):
        raise UsageProblem(f"--report {str(page)!r} does not end in .html")
    if not page.parent.is_dir() or page.is_dir():
        raise UsageProblem(f"--report {str(page)!r}: there is no folder for it")


def to_json(recording: Recording) -> dict[str, Any]:
    """The figures of the summary, and the recording, of which the page can be made again."""
    figures: dict[str, Any] = encode(summarise(recording))
    return {**figures, "recording": encode(recording)}


def write(recording: Recording, page: Path) -> tuple[Path, Path]:
    """Write the page and the JSON file; their paths. Raises LabError."""
    beside = page.with_suffix(".json")
    try:
        write_atomic(page, render(recording))
        write_json(beside, to_json(recording))
    except OSError as error:
        raise LabError(f"cannot write the report {page}: {error.strerror}") from error
    return page, beside
