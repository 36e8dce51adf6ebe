"""The two consoles: results on stdout, progress on stderr. Reads the terminal once per use."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live


def result_console() -> Console:
    """Where results go. 80 columns, or COLUMNS, where nobody looks; honours NO_COLOR."""
    return Console(highlight=False, soft_wrap=False)


def progress_console() -> Console:
    """Where progress goes."""
    return Console(stderr=True, highlight=False)


def looked_at(stream: str) -> bool:
    """Whether a person looks at `stdout` or `stderr`."""
    return bool(getattr(sys, stream).isatty())


@contextlib.contextmanager
def living_picture(*, transient: bool = False) -> Iterator[Live | None]:
    """A picture on stderr that is drawn again and again, and stays unless `transient`.

    None where nobody looks: there, lines are told instead.
    """
    if not looked_at("stderr"):
        yield None
        return
    with Live(console=progress_console(), auto_refresh=False, transient=transient) as live:
        yield live


def unicode_ok(console: Console) -> bool:
    """Whether the terminal can show more than ASCII."""
    return not console.options.ascii_only
