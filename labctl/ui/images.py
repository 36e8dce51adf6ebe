"""A build while it goes on: a bar for each step on a terminal, lines elsewhere; and the images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from labcore.wire.event import Event
from labcore.wire.image import Image, ImageState, ImageStep
from labctl.images.run import ImageRun, StepProgress
from labctl.ui import marks
from labctl.ui.console import living_picture, progress_console, unicode_ok
from labctl.ui.plain import note
from labctl.ui.tables import make_table, show_table

_WIDTH = 20
_LINE = 36
_TENTHS = 10
_IN_MIB = (ImageStep.FETCH,)


@contextlib.contextmanager
def build_progress(steps: Sequence[ImageStep]) -> Iterator[BuildProgress]:
    """Show a build on stderr. The last picture stays."""
    with living_picture() as live:
        yield BuildProgress(steps, live)


class BuildProgress:
    """Shows a build, event by event."""

    def __init__(self, steps: Sequence[ImageStep], live: Live | None) -> None:
        self._steps = tuple(steps)
        self._live = live
        self._fancy = unicode_ok(progress_console())
        self._tenth: dict[str, int] = {}  # of a step, told last

    def show(self, run: ImageRun, event: Event) -> None:
        """Show what `event`, which `run` has taken in already, changed."""
        if self._live is not None:
            self._live.update(self._picture(run), refresh=True)
        elif self._is_worth_a_line(event):
            note(f"{event.at[11:19]} {event.message}")

    def _is_worth_a_line(self, event: Event) -> bool:
        total = event.data.get("total")
        if not isinstance(total, int | float) or total <= 0:
            return True
        step, done = str(event.data.get("step")), event.data.get("done")
        tenth = int(_TENTHS * float(done) / total) if isinstance(done, int | float) else 0
        if self._tenth.get(step) == tenth:
            return False
        self._tenth[step] = tenth
        return True

    def _picture(self, run: ImageRun) -> Table:
        rows = [self._row(step, run.steps.get(step)) for step in self._steps]
        return make_table(("", "", "", ">"), rows)

    def _row(self, step: ImageStep, found: StepProgress | None) -> tuple[str, str, str, str]:
        if found is None:
            return str(step), marks.bar(0, _WIDTH, fancy=self._fancy), "", ""
        if found.seconds is not None:
            whole = marks.bar(_WIDTH, _WIDTH, fancy=self._fancy)
            return str(step), whole, "", f"{found.seconds:.1f} s"
        part = min(1.0, found.done / found.total) if found.total else 0.0
        bar = marks.bar(int(_WIDTH * part), _WIDTH, fancy=self._fancy)
        return str(step), bar, _now(step, found), ""


def _now(step: ImageStep, found: StepProgress) -> str:
    if found.line:
        return escape(found.line[:_LINE])
    if not found.total:
        return "…"
    if step in _IN_MIB:
        return f"{found.done:.0f} of {found.total:.0f} MiB"
    return f"{100 * found.done / found.total:.0f} %"


def _state(image: Image) -> str:
    if image.step is not None:
        return f"{image.state} ({image.step})"
    return f"{image.state}, live" if image.wish.live else str(image.state)


def show_images(images: Sequence[Image], digest: str) -> None:
    """The images as a result; `digest` is that of the provision scripts of today."""
    rows = [
        (
            image.name,
            image.driver,
            _state(image),
            image.arch or "-",
            f"{image.size_mib} MiB" if image.size_mib is not None else "-",
            image.created_at[:16].replace("T", " "),
            ", ".join(image.labs) or "-",
        )
        for image in images
    ]
    show_table(("NAME", "DRIVER", "STATE", "ARCH", "SIZE>", "CREATED (UTC)", "LABS"), rows)
    for image in images:
        if image.problem:
            note(f"{image.name}: {image.problem}")
        elif image.state is ImageState.READY and image.provision_digest not in (None, digest):
            note(f"{image.name}: made by the scripts of another labctl; build it again some day")
