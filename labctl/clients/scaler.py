"""The scaler's HTTP API, as labctl calls it.

Every method raises the LabError that the scaler answered with, or Unreachable.
"""

from __future__ import annotations

import urllib.parse

from labcore.codec import decode
from labcore.errors import Unreachable
from labcore.http_client import call_json
from labcore.wire.lab import Mode
from labcore.wire.scaler import Decision, ScalerStatus

HINT = "labctl up repairs the control node; labctl logs control shows what it said"


class ScalerClient:
    """The scaler of one lab at `url`, with the lab's token."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    def status(self) -> ScalerStatus:
        """What it knows and does now."""
        return decode(ScalerStatus, self._call("GET", "/status"))

    def scale(self, count: int, group: str | None = None) -> None:
        """Wish for `count` nodes; the group's mode becomes manual. Answers before they serve."""
        self._call("POST", "/scale", {"count": count, **({"group": group} if group else {})})

    def set_mode(self, mode: Mode, group: str | None = None) -> None:
        """Let the policy decide, or people."""
        self._call("POST", "/mode", {"mode": mode, **({"group": group} if group else {})})

    def reset(self, group: str | None = None) -> None:
        """Make nodes again at once, although many failed to boot."""
        self._call("POST", "/reset", {"group": group} if group else {})

    def decisions(self, group: str | None = None, *, limit: int = 100) -> tuple[Decision, ...]:
        """The last decisions, oldest first."""
        query = urllib.parse.urlencode({"limit": limit, **({"group": group} if group else {})})
        answer = self._call("GET", f"/decisions?{query}")
        given = answer.get("decisions") if isinstance(answer, dict) else None
        return tuple(sorted(decode(tuple[Decision, ...], given), key=lambda d: d.seq))

    def _call(self, method: str, path: str, body: object = None) -> object:
        try:
            url = self.url + path
            return call_json(method, url, body, token=self._token, timeout_s=self._timeout_s)
        except Unreachable as error:
            raise Unreachable(f"the scaler at {error.message}", HINT) from error
