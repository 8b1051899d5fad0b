"""How the CLI shows things: one table style, one JSON style, one error style."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from controlplane.kit.errors import RedoubtError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

STATE_STYLES = {
    "ready": "green", "present": "green", "degraded": "yellow", "draining": "yellow", "loading": "cyan",
    "starting": "cyan", "wanted": "cyan", "silent": "red", "lost": "red", "missing": "red", "failed": "red",
    "running": "green", "done": "green", "queued": "cyan", "requeued": "yellow", "checkpointing": "yellow",
    "stopping": "yellow", "stopped": "yellow",
}  # fmt: skip


def show(rows: Iterable[BaseModel], columns: Sequence[tuple[str, str]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table of (heading, field) columns, or as a JSON list."""
    found = list(rows)
    if as_json:
        show_json([row.model_dump(mode="json") for row in found])
    elif not found:
        say(empty)
    else:
        _console().print(_table(found, columns))


def show_trees(trees: Iterable[Tree]) -> None:
    """Print trees one under the other."""
    console = _console()
    for tree in trees:
        console.print(tree)


def show_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(line: str) -> None:
    """Print one plain line."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """Print one line on standard error: what is told while a command works."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def show_error(error: RedoubtError) -> None:
    """Print the cause, the reasons and the next step on standard error."""
    sys.stderr.write(f"redoubt: {error.detail}\n")
    for reason in error.reasons:
        if reason != error.detail:
            sys.stderr.write(f"  - {reason}\n")
    sys.stderr.write(f"  next: {error.remedy}\n")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _table(rows: Sequence[BaseModel], columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    lines = [[_cell(getattr(row, field)) for _, field in columns] for row in rows]
    for number, (heading, _) in enumerate(columns):
        widest = max((len(line[number]) for line in lines), default=0)
        table.add_column(heading, min_width=widest if number == 0 else None)  # the next command is given it: never cut
    for line in lines:
        table.add_row(*line)
    return table


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case dict():
            return ", ".join(f"{name}={part}" for name, part in value.items()) or "-"
        case tuple() | list():
            return ", ".join(str(item) for item in value) or "-"
        case str() if value in STATE_STYLES:
            return f"[{STATE_STYLES[value]}]{value}[/]"
        case _:
            return str(value) or "-"
