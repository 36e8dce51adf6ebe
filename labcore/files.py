"""Files that somebody else reads: written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content`: a reader, or a crash at any moment, sees old or new, never half.

    Temp file in the same directory, fsync, rename, fsync of the directory (ALICE, OSDI 2014: a
    rename without the first fsync may leave an empty file). The directory must exist.
    """
    raw = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if hasattr(os, "fchmod"):  # not on Windows before Python 3.13; modes mean little there
                os.fchmod(stream.fileno(), mode)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    # A directory cannot be opened on Windows; there the rename is durable by itself.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_secret(path: Path, content: str | bytes) -> None:
    """`write_atomic` with mode 0600, into a directory made with mode 0700 if it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, content, mode=0o600)


def write_json(path: Path, value: object, *, mode: int = 0o644) -> None:
    """`write_atomic` of a JSON text; `value` is what `codec.encode` returns."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode=mode)


def read_json(path: Path) -> object | None:
    """The value in a JSON file; None if there is no such file. Raises ValueError on bad JSON."""
    try:
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def read_secret(path: Path) -> str:
    """The text of a secret file, without surrounding white space. Raises OSError."""
    return path.read_text().strip()


def tail(path: Path, lines: int, *, most_bytes: int = 64 * 1024) -> tuple[str, ...]:
    """The last `lines` lines of a log, reading at most `most_bytes`; () if there is no file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - most_bytes))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-lines:]) if lines > 0 else ()
