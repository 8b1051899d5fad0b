"""The options of `redoubt box`. What it runs is imported when it runs: no other verb should wait a second for it."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.screen import Json


def box(
    home: Annotated[
        Path | None, typer.Option(help="Keep the box's state here; a temporary place if not given.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Manifest of a GGUF model; the practice model if not given.")
    ] = None,
    api_port: Annotated[int, typer.Option(help="0 picks a free one.")] = 8443,
    gateway_port: Annotated[int, typer.Option(help="0 picks a free one.")] = 9443,
    *,
    check: Annotated[bool, typer.Option("--check", help="Start, get one chat answer, print a summary, stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run the control plane, a gateway and an inference server on this machine. Needs no root."""
    from controlplane.main.box import run_box  # noqa: PLC0415 - see the top of this file

    run_box(home, model, (0, 0) if check else (api_port, gateway_port), check=check, as_json=as_json)
