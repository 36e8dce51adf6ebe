"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from labctl.ui.console import result_console


def make_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without lines; a column whose name ends in `>` is set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            column.rstrip(">"),
            justify="right" if right else "left",
            header_style="bold",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return table


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as a result."""
    result_console().print(make_table(columns, rows))
