"""image: what servers are cloned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.images.login import Login

image = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Build, import, list or remove what virtual machines and containers are cloned from.",
)
NameOption = Annotated[str | None, typer.Option("--name", help="Its name (default: its source's).")]
DriverOption = Annotated[str | None, typer.Option("--driver", help="virtualbox or incus.")]
SumOption = Annotated[str | None, typer.Option("--sha512", help="What the file must be.")]
SOURCE_HELP = "A disk (raw, qcow2, vdi, vmdk, ova, .box) or its URL; for incus an image there."


@image.command("build")
def build(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Argument(help=SOURCE_HELP)] = None,
    name: NameOption = None,
    driver: DriverOption = None,
    sha512: SumOption = None,
    ssh_user: Annotated[
        str | None, typer.Option("--ssh-user", help="Who may log in (default: a cloud image).")
    ] = None,
    ssh_key: Annotated[
        str | None, typer.Option("--ssh-key", help="The private key of --ssh-user.")
    ] = None,
    app_image: Annotated[
        str | None, typer.Option("--app-image", help="A container archive to load into it.")
    ] = None,
    memory_mib: Annotated[
        str, typer.Option("--memory-mib", help="Of the machine while it is built.")
    ] = "1024",
    cpus: Annotated[str, typer.Option("--cpus", help="Likewise.")] = "2",
    live: Annotated[
        bool, typer.Option("--live", help="Servers of that size start from memory first.")
    ] = False,
) -> None:
    """Make an image: boot a copy of SOURCE once, provision it, seal it.

    Without SOURCE it downloads the Debian 12 cloud image for this machine. The same command again
    goes on with a download, joins a build, and does nothing for an image that is ready.
    """
    from labctl.images import login

    made = {
        "sha512": sha512.lower() if sha512 else None,
        "app_image": _file(app_image, "--app-image"),
        "memory_mib": _number(memory_mib, "--memory-mib", 128),
        "cpus": _number(cpus, "--cpus", 1),
        "live": live,
    }
    _make(ctx, source, name, driver, login.choose(source, ssh_user, ssh_key), made)


@image.command("import")
def import_(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    name: NameOption = None,
    driver: DriverOption = None,
    sha512: SumOption = None,
) -> None:
    """Take an image that is provisioned and sealed already; it is not booted."""
    from labctl.images import login

    made = {"sha512": sha512.lower() if sha512 else None, "provision": False}
    _make(ctx, source, name, driver, login.choose(source, None, None), made)


@image.command("list")
def list_(ctx: typer.Context) -> None:
    """Show all images, and how far those are that are being built."""
    from labcore.codec import encode
    from labctl import session
    from server_manager.guest import provisioning

    images = session.connect().manager.images()
    if options(ctx).json:
        plain.show_json({"images": encode(images)})
    elif not images:
        plain.note("there is no image; labctl image build makes one")
    else:
        from labctl.ui.images import show_images

        show_images(images, provisioning.digest())


@image.command("remove")
def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, as `list` shows it.")],
    driver: DriverOption = None,
) -> None:
    """Remove an image; refuses while labs are cloned from it. Stops its build, if one goes on."""
    from labctl import session
    from labctl.images.choice import find

    manager = session.connect().manager
    found = find(manager.images(), name, driver)
    manager.remove_image(found.driver, found.name)
    plain.note(f"image {found.name} is gone")


def _make(
    ctx: typer.Context,
    source: str | None,
    name: str | None,
    driver: str | None,
    login: Login,
    made: Mapping[str, object],
) -> None:
    from labcore.codec import decode, encode
    from labcore.wire.image import ImageStep, ImageWish
    from labctl import session
    from labctl.images import build, choice
    from labctl.ui.images import build_progress, show_images
    from server_manager.guest import provisioning

    name = name or choice.name_for(source)
    here = session.connect()
    driver, of_disks = choice.choose_driver(here, driver)
    wanted = {"source": _place(source) if of_disks else source, "login": login.kind, **made}
    wish = decode(ImageWish, {key: value for key, value in wanted.items() if value is not None})
    left_out = set() if wish.live else {ImageStep.LIVE}
    if not wish.provision:
        left_out |= {ImageStep.BOOT, ImageStep.PROVISION, ImageStep.SEAL}
    steps = [step for step in ImageStep if step not in left_out]
    with build_progress(steps) as progress:
        image = build.build(here, driver, name, wish, login, progress.show)
    if options(ctx).json:
        plain.show_json(encode(image))
    else:
        show_images([image], provisioning.digest())


def _place(source: str | None) -> str | None:
    """A file as the server-manager finds it; a URL as it is."""
    if source is None or "://" in source:
        return source
    return str(Path(source).expanduser().absolute())


def _file(name: str | None, option: str) -> str | None:
    from labcore.errors import UsageProblem

    if name is None:
        return None
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise UsageProblem(f"{option} {name}: there is no such file")
    return str(path)


def _number(text: str, option: str, least: int) -> int:
    from labcore.errors import UsageProblem

    if not text.isdigit() or int(text) < least:
        raise UsageProblem(f"{option} {text!r} is not a number from {least}")
    return int(text)
