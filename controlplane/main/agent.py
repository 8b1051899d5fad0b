"""`python -m controlplane.main.agent --config FILE [--once]`: what this node is and how it does."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

import httpx

from controlplane.agent.gpus import read_gpus
from controlplane.agent.reports import Observer, Reporter
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput
from controlplane.kit.loop import run_every
from controlplane.kit.tls import client_context
from controlplane.main.process import run_process
from controlplane.main.settings import AgentSettings, ControlPlaneLink, read_settings

ANSWER_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m controlplane.main.agent", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings file, TOML")
    parser.add_argument("--once", action="store_true", help="print one report as JSON and send nothing")
    asked = parser.parse_args()
    run_process("agent", _run(asked.config, once=asked.once))


async def _run(config: Path, *, once: bool) -> None:
    settings = read_settings(AgentSettings, config)
    observer = Observer(read_gpus, settings.disk, SystemClock(), version("redoubt"))
    if once:
        sys.stdout.write(observer.observe().model_dump_json(indent=2) + "\n")
        return
    async with _connect(settings.control_plane) as client:
        await run_every("report", settings.period_s, Reporter(client, observer).report)


def _connect(link: ControlPlaneLink) -> httpx.AsyncClient:
    if link.tls is None:
        raise BadInput(
            "a node is known by its certificate", remedy="name certificate, key and ca in [control_plane.tls]"
        )
    context = client_context(link.tls.ca, link.tls.files)
    return httpx.AsyncClient(base_url=link.url, verify=context, timeout=ANSWER_S, trust_env=False)


if __name__ == "__main__":
    main()
