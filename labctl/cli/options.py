"""What every command understands: --lab, -o, -v; before the command or behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from labcore.errors import UsageProblem
from labctl.cli import completion

FORMATS = ("table", "json")


@dataclass
class Options:
    """The choices of one run of labctl."""

    lab: str | None = None
    output: str = "table"
    verbose: bool = False

    @property
    def json(self) -> bool:
        """Whether the result is wanted as JSON."""
        return self.output == "json"


def options(ctx: typer.Context) -> Options:
    """The choices of this run."""
    found: Options = ctx.find_root().obj
    return found


def _declare(
    lab: Annotated[
        str | None,
        typer.Option(
            "--lab",
            metavar="LAB",
            help="Which lab (default: the only one, or that of ./lab.yaml).",
            autocompletion=completion.labs,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="table|json",
            help="For people or for programs.",
            autocompletion=completion.formats,
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Hold the declarations; never called."""


def common_parameters() -> list[Any]:
    """--lab, -o and -v as click parameters that store what they are given in Options."""
    app = typer.Typer(add_completion=False)
    app.command()(_declare)
    parameters: list[Any] = list(typer.main.get_command(app).params)
    for parameter in parameters:
        parameter.expose_value = False
        parameter.callback = _remember
    return parameters


def _remember(ctx: typer.Context, parameter: Any, value: Any) -> Any:
    if parameter.name == "output" and value is not None and value not in FORMATS:
        raise UsageProblem(f"-o {value!r} is not a format", f"allowed: {', '.join(FORMATS)}")
    if value and not ctx.resilient_parsing:
        setattr(options(ctx), parameter.name, value)
    return value


def make_lean(command: Any) -> None:
    """Keep pydantic out of the parameters of a command that are text or flags.

    typer from 0.27 on converts every value, even one that is missing, by pydantic, whose import
    takes longer than most of our commands. Text and flags need no conversion. Also keeps the
    variables out of its help: that of the whole program says how they are named.
    """
    for parameter in command.params:
        _make_lean(parameter)
    # --help is none of the params, but made when it is first asked for.
    make_help = command.get_help_option

    def get_help_option(ctx: typer.Context) -> Any:
        parameter = make_help(ctx)
        if parameter is not None and "process_value" not in vars(parameter):
            _make_lean(parameter)
        return parameter

    command.get_help_option = get_help_option


def _make_lean(parameter: Any) -> None:
    parameter.show_envvar = False
    described = getattr(parameter, "type_descriptor", None)
    if described is None or described.annotation not in (str, bool, list[str]):
        return
    convert: Callable[[typer.Context, Any], Any] = parameter.process_value

    def process(ctx: typer.Context, value: Any) -> Any:
        if value is None and not parameter.required:
            value = () if parameter.multiple else None
        elif not value or isinstance(value, str) == (described.annotation is bool):
            return convert(ctx, value)
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    parameter.process_value = process
