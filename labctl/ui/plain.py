"""Words and JSON without any drawing: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback

from labcore.errors import Interrupted, LabError


def result(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_json(value: object) -> None:
    """The result as JSON."""
    result(json.dumps(value, indent=2))


def show_json_line(value: object) -> None:
    """One of many results, as a line of JSON."""
    result(json.dumps(value))


def note(text: str) -> None:
    """Progress, or a remark for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_error(error: LabError, *, as_json: bool = False, verbose: bool = False) -> None:
    """An error on stderr: what happened, the last lines, what to do now."""
    if verbose:
        note("".join(traceback.format_exception(error)).rstrip())
    if as_json:
        note(json.dumps(error.to_wire(), indent=2))
        return
    # Whoever pressed Ctrl-C knows that; it is no error.
    note(error.message if isinstance(error, Interrupted) else f"{_red('Error:')} {error.message}")
    for line in error.details:
        note(f"  {line}")
    if error.hint:
        note(f"hint: {error.hint}")


def _red(text: str) -> str:
    if not sys.stderr.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[1;31m{text}\x1b[0m"
