"""What the demo needs of whoever shows it."""

from __future__ import annotations

from typing import Protocol

from labcore.wire.scaler import ScalerStatus
from labctl.load.types import Progress


class Narrator(Protocol):
    """Shows the demo while it goes on. Times are seconds since it began."""

    def act(self, at_s: float, title: str) -> None:
        """A new part begins."""
        ...

    def tell(self, at_s: float, text: str) -> None:
        """Something happened."""
        ...

    def picture(self, at_s: float, status: ScalerStatus | None, load: Progress | None) -> None:
        """How all stands now; called about twice a second."""
        ...
