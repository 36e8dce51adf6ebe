"""Begins a build, follows it, does labctl's part of it, and lets Ctrl-C stop it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import filelock

from labcore.clock import rfc3339
from labcore.errors import Interrupted, LabError, Unreachable
from labcore.wire.event import Event, EventKind
from labcore.wire.image import Image, ImageState, ImageStep, ImageWish, image_topic
from labctl.images.login import Login
from labctl.images.run import ImageRun
from labctl.session import Session
from labctl.ui import plain

Show = Callable[[ImageRun, Event], None]
POLL_S = 10.0
LOG = "provision.log"


def build(
    session: Session, driver: str, name: str, wish: ImageWish, login: Login, show: Show
) -> Image:
    """Make an image, or join whoever makes it; what it is then. Raises what the build failed with.

    The first Ctrl-C stops it and waits for that; the second leaves at once.
    """
    run = None
    try:
        run = ImageRun(driver, name, session.manager.put_image(driver, name, wish))
        _follow(session, run, wish, login, show)
    except KeyboardInterrupt:
        _stop(session, driver, name, run, show)
    except Unreachable as error:
        hint = "the same command again goes on, or begins again"
        raise Unreachable(f"the server-manager died: {error.message}", hint) from error
    run.check()
    return session.manager.image(driver, name)


def _follow(session: Session, run: ImageRun, wish: ImageWish, login: Login, show: Show) -> None:
    topic = image_topic(run.driver, run.name)
    while run.ended is None:
        after = max(run.number, run.seen)
        for event in session.manager.events(topic, after=after, wait_s=POLL_S):
            run.add(event)
            show(run, event)
            if _is_ours(event):
                _do_our_part(session, run, wish, login, show)


def _is_ours(event: Event) -> bool:
    data = event.data
    return (
        data.get("step") == ImageStep.PROVISION
        and data.get("outcome") == "begun"
        and bool(data.get("address"))
    )


def _do_our_part(
    session: Session, run: ImageRun, wish: ImageWish, login: Login, show: Show
) -> None:
    """Provision the builder, unless that is done already or another labctl is at it."""
    image = session.manager.image(run.driver, run.name)
    if image.state is not ImageState.BUILDING or image.step is not ImageStep.PROVISION:
        return
    directory = session.paths.image(run.driver, run.name)
    try:
        with filelock.FileLock(directory / "provision.lock", timeout=0):
            _provision(session, run, image, wish, login, show)
    except filelock.Timeout:
        plain.note("another labctl provisions it: following")


def _provision(
    session: Session, run: ImageRun, image: Image, wish: ImageWish, login: Login, show: Show
) -> None:
    # Imported here: paramiko takes its time.
    from labctl.images.provision import heard, provision
    from server_manager.guest.provisioning import archive

    log = session.paths.image(run.driver, run.name) / LOG
    problem = None
    try:
        with (
            log.open("w") as written,
            heard(lambda: session.manager.image_action(run.driver, run.name, "working")),
        ):

            def tell(line: str) -> None:
                written.write(line + "\n")
                written.flush()
                _show_line(session, run, line, show)

            address = image.address or ""
            endpoint = login.endpoint(session.paths, run.driver, run.name, address)
            app_image = Path(wish.app_image) if wish.app_image else None
            provision(endpoint, archive(), app_image, session.clock, tell)
    except LabError as error:
        problem = error
    body = problem.to_wire() if problem else {}
    session.manager.image_action(run.driver, run.name, "provisioned", body)


def _show_line(session: Session, run: ImageRun, line: str, show: Show) -> None:
    data = {"run": run.number, "step": str(ImageStep.PROVISION), "line": line}
    at, topic = rfc3339(session.clock.now()), image_topic(run.driver, run.name)
    event = Event(0, at, topic, EventKind.IMAGE, f"{run.name}: {line}", None, data)
    run.add(event)
    show(run, event)


def _stop(session: Session, driver: str, name: str, run: ImageRun | None, show: Show) -> NoReturn:
    """`run` is None if the wish was not answered: it may have been heard all the same."""
    plain.note("stopping the build; Ctrl-C again leaves at once")
    try:
        session.manager.image_action(driver, name, "cancel")
        while run is not None and run.ended is None:
            topic = image_topic(driver, name)
            for event in session.manager.events(topic, after=run.seen, wait_s=POLL_S):
                run.add(event)
                show(run, event)
    except KeyboardInterrupt:
        pass
    except LabError as error:
        plain.note(f"could not stop it: {error.message}")
    raise Interrupted(
        f"image {name!r}: interrupted",
        f"the same labctl image build begins again; labctl image remove {name} cleans up",
    ) from None
