"""Downloads that go on where they broke off, and are what their checksum says.

<file>.part     what has come so far        <file>.part.json   of which version of which URL
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from labcore.clock import Clock
from labcore.codec import decode, encode
from labcore.errors import LabError, Unreachable, UsageProblem
from labcore.files import read_json, write_json
from labcore.waiting import retry_call
from server_manager.drivers.imaging import Teller

CHUNK = 1024 * 1024
MIB = 1024 * 1024
SILENCE_S = 30.0  # of a server, until the connection is given up
CONNECTIONS = 20  # for one file, each going on where the one before broke off
MOST_TEXT = 1024 * 1024
OFFLINE_HINT = "download it elsewhere, then name the file: labctl image build FILE"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class _Known:
    """Of which version of which URL the part is; without a validator it cannot be gone on with."""

    url: str
    validator: str | None = None  # ETag, or Last-Modified
    size: int | None = None


class _Broken(Unreachable):
    """The connection ended early; what came is kept."""


def download(url: str, target: Path, sha512: str, clock: Clock, teller: Teller) -> None:
    """Make `target` the file at `url`. There already, with that checksum: nothing.

    May be called again after any interruption: it goes on with the part that came, if the server
    has the same version still and can send the rest, else begins again. A connection that breaks
    is made again. Raises Unreachable if the server does not answer or goes on breaking off,
    LabError for a wrong checksum (the file is gone then) or a full disk, UsageProblem for a URL
    that leads to nothing.
    """
    check_url(url)
    if target.exists() and sha512_of(target) == sha512:
        return
    part = target.with_name(target.name + ".part")
    with _full_disk_told(target):
        retry_call(
            lambda: _fetch(url, part, teller),
            retry_on=lambda error: isinstance(error, _Broken),
            attempts=CONNECTIONS,
            clock=clock,
            pause_s=0.5,
        )
    found = sha512_of(part)
    if found != sha512:
        _forget(part)
        raise LabError(
            f"{url}: its SHA-512 is {found[:16]}…, not {sha512[:16]}… as it should be",
            "the download was removed; check --sha512, or who sits between you and that server",
        )
    part.replace(target)
    _note(part).unlink(missing_ok=True)


def fetch_text(url: str) -> str:
    """A small text file. Raises as `download`."""
    with _answer(check_url(url), {}) as answer:
        return bytes(answer.read(MOST_TEXT)).decode(errors="replace")


def check_url(url: str) -> str:
    """Give a URL back if it can be downloaded; raises UsageProblem."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageProblem(f"{url!r} is no http or https URL")
    return url


def sha512_of(path: Path) -> str:
    """The SHA-512 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha512").hexdigest()


def _fetch(url: str, part: Path, teller: Teller) -> None:
    """Bring in what is missing; raises _Broken if the connection ends before that."""
    known = _known(part, url)
    have = _size(part) if known.validator else 0
    if known.size is not None and 0 < known.size == have:
        return
    headers = {}
    if have and known.validator:
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator}
    with _answer(url, headers) as answer:
        have = _goes_on_from(answer, have)
        total = _length(answer, have)
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        # Before the first byte: a part must never be taken for one of another version.
        if not have:
            part.unlink(missing_ok=True)
        write_json(_note(part), encode(_Known(url, validator, total)))
        _check_room(part, total - have if total is not None else 0)
        with part.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            stream.truncate()
            _copy(answer, stream, have, total, teller)
    if total is not None and _size(part) < total:
        raise _Broken(f"{url}: the connection broke after {_size(part) // MIB} MiB", OFFLINE_HINT)


def _copy(answer: Any, stream: IO[bytes], have: int, total: int | None, teller: Teller) -> None:
    while True:
        try:
            chunk = answer.read(CHUNK)
        except http.client.IncompleteRead as error:
            stream.write(error.partial)
            raise _Broken("the download broke off", OFFLINE_HINT) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"the download broke off: {error}", OFFLINE_HINT) from error
        if not chunk:
            return
        stream.write(chunk)
        have += len(chunk)
        teller.progress(have / MIB, (total or have) / MIB)


def _goes_on_from(answer: Any, have: int) -> int:
    """Where the bytes of an answer begin: behind what we have, or from the start."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT and found and int(found[1]) == have:
        return have
    return 0


def _length(answer: Any, have: int) -> int | None:
    told = answer.headers.get("Content-Length")
    return have + int(told) if told and told.isdigit() else None


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Any]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - see check_url
    host = urllib.parse.urlsplit(url).netloc
    try:
        answer = urllib.request.urlopen(request, timeout=SILENCE_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410, 403):
            raise UsageProblem(f"{url}: {error.code} {error.reason}", "check the URL") from None
        raise _Broken(f"{url}: {error.code} {error.reason}", OFFLINE_HINT) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{host} does not answer: {reason}", OFFLINE_HINT) from error
    with answer:
        yield answer


@contextlib.contextmanager
def _full_disk_told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(target, 0) from error


def _check_room(part: Path, needed: int) -> None:
    if shutil.disk_usage(part.parent).free < needed:
        raise _full(part, needed)


def _full(path: Path, needed: int) -> LabError:
    free = shutil.disk_usage(path.parent).free // MIB
    wants = f", {needed // MIB} MiB are needed" if needed else ""
    return LabError(
        f"the disk of {path.parent} is full: {free} MiB are free{wants}",
        "make room, then the same command goes on with what has come",
    )


def _known(part: Path, url: str) -> _Known:
    try:
        known = decode(_Known, read_json(_note(part)))
    except (ValueError, UsageProblem):
        return _Known(url)
    return known if known.url == url else _Known(url)


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
