"""init, validate, schema, blueprints: lab files, without any lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.options import options
from labctl.ui import plain

FileArgument = Annotated[str, typer.Argument(help="The lab file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, e.g. scaling.min=3."),
]


def init(
    ctx: typer.Context,
    file: FileArgument = "lab.yaml",
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
) -> None:
    """Write a commented lab.yaml to start from. Refuses to write over a file."""
    from labctl import blueprints

    path = Path(file)
    blueprints.write_first(path, options(ctx).lab or "demo", force=force)
    plain.note(f"wrote {path}; next: labctl up")


def validate(
    ctx: typer.Context,
    file: FileArgument = "lab.yaml",
    named: Annotated[
        str | None, typer.Option("--file", "-f", help="The lab file, as `up` takes it.")
    ] = None,
    sets: SetOption = None,
) -> None:
    """Check a lab file and tell every problem at once, with its path."""
    from labctl import wish
    from server_manager import labfile

    file = named or file
    lab = labfile.load(Path(file), tuple(sets or ()), lab=options(ctx).lab)
    wish.check_policies(lab)
    if options(ctx).json:
        plain.show_json(labfile.to_json(lab))
    else:
        plain.result(f"{file}: lab {lab.lab!r} is valid")


def schema() -> None:
    """Print the JSON Schema of lab files, for your editor."""
    from server_manager import labfile

    plain.show_json(labfile.json_schema())


def blueprints(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
) -> None:
    """List the lab files that labctl ships, or print one."""
    from labctl import blueprints as shipped

    if name is not None:
        plain.result(shipped.text(name).rstrip())
    elif options(ctx).json:
        plain.show_json([{"name": n, "title": t} for n, t in shipped.titles().items()])
    else:
        for known, title in shipped.titles().items():
            plain.result(f"{known:<12} {title}")
