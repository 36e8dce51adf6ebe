"""What the server-manager shows of a node's logs, without going into it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence

from labcore.errors import LabError
from labctl.session import Session

REFRESH_S = 1.0
MOST_LINES = 1000


def lines_of(
    session: Session, lab: str, node: str, service: str | None, lines: int
) -> tuple[str, ...]:
    """The last lines that the driver has of a service (None: of the node as a whole)."""
    query = urllib.parse.urlencode({"lines": lines, **({"service": service} if service else {})})
    answer = session.manager.request("GET", f"/servers/{lab}/{node}/logs?{query}")
    given = answer.get("lines") if isinstance(answer, dict) else None
    if not isinstance(given, list):
        raise LabError(f"the log of {node} has no lines")
    return tuple(str(line) for line in given)


def growth(
    session: Session, lab: str, node: str, sources: Sequence[str | None]
) -> Iterator[tuple[str | None, str]]:
    """Every line that comes from now on, behind its source; without end."""
    seen = {source: lines_of(session, lab, node, source, MOST_LINES) for source in sources}
    while True:
        session.clock.sleep(REFRESH_S)
        for source in sources:
            now = lines_of(session, lab, node, source, MOST_LINES)
            for line in behind(seen[source], now):
                yield source, line
            seen[source] = now


def behind(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The lines that `new` has behind those of `old`, when both are the end of one growing log.

    Nothing in common: all of `new`.
    """
    for gone in range(len(old) + 1):
        kept = list(old[gone:])
        if list(new[: len(kept)]) == kept:
            return list(new[len(kept) :])
    return list(new)


def console(session: Session, lab: str, node: str, lines: int, *, follow: bool) -> Iterator[str]:
    """What a node said on its console; with `follow`, without end."""
    yield from lines_of(session, lab, node, None, lines)
    if follow:
        for _, line in growth(session, lab, node, (None,)):
            yield line
