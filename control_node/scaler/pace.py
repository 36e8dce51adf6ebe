"""How often nginx may be reloaded: a few times at once, then once a second.

Every reload leaves workers behind that finish what they have, and forgets what nginx knew of its
backends. Changes that come faster than this are written together.
"""

from __future__ import annotations

import math

RELOADS_AT_ONCE = 3
RELOAD_EVERY_S = 1.0


class Pace:
    """A bucket of RELOADS_AT_ONCE that fills by one per RELOAD_EVERY_S (as GCRA, ITU-T I.371)."""

    def __init__(self) -> None:
        self._full_at = -math.inf

    def may(self, now: float) -> bool:
        """Whether there is one left."""
        return self._full_at - now <= (RELOADS_AT_ONCE - 1) * RELOAD_EVERY_S

    def take(self, now: float) -> None:
        """Take one; only if `may`."""
        self._full_at = max(self._full_at, now) + RELOAD_EVERY_S
