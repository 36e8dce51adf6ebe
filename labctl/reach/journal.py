"""The journal of a node's services: how it is asked for, and how a line of it is shown. Pure."""

from __future__ import annotations

import json

PREFIX, SUFFIX = "labctl-", ".service"


def journal_command(service: str | None, lines: int, *, follow: bool) -> list[str]:
    """What to run on the node; our login user may read the journal only as root."""
    unit = f"{PREFIX}{service or '*'}{SUFFIX}"
    return [
        *("sudo", "-n", "journalctl", "--quiet", "--no-pager", "--output", "json"),
        *("--output-fields", "MESSAGE,UNIT,_SYSTEMD_UNIT", "--unit", unit, "--lines", str(lines)),
        *(["--follow"] if follow else []),
    ]


def shown(raw: bytes, *, with_name: bool) -> str:
    """One line of that output for people: `name | text`, or the text alone."""
    try:
        entry = json.loads(raw)
        said = entry.get("MESSAGE")
    except (ValueError, AttributeError):
        return raw.decode(errors="replace").rstrip("\n")
    # What is no UTF-8 comes as a list of bytes, what is too long as null.
    text = bytes(said).decode(errors="replace") if isinstance(said, list) else str(said or "")
    unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "")
    name = unit.removeprefix(PREFIX).removesuffix(SUFFIX)
    return f"{name} | {text}" if with_name else text
