"""The two consoles: results on stdout, progress on stderr. Reads the terminal once per use."""

from __future__ import annotations

import sys

from rich.console import Console


def result_console() -> Console:
    """Where results go. 80 columns, or COLUMNS, where nobody looks; honours NO_COLOR."""
    return Console(highlight=False, soft_wrap=False)


def progress_console() -> Console:
    """Where progress goes."""
    return Console(stderr=True, highlight=False)


def looked_at(stream: str) -> bool:
    """Whether a person looks at `stdout` or `stderr`."""
    return bool(getattr(sys, stream).isatty())


def unicode_ok(console: Console) -> bool:
    """Whether the terminal can show more than ASCII."""
    return not console.options.ascii_only
