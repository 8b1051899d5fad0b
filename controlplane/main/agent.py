"""`python -m controlplane.main.agent --config FILE [--once]`: what this node is and how it does."""

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

from cryptography import x509

from controlplane.agent.gpus import read_gpus
from controlplane.agent.reports import Observer, Reporter
from controlplane.agent.witness import Witness, WitnessFolder
from controlplane.client.renewal import Renewal
from controlplane.kit.certificates import NotTrusted, uri_of
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput
from controlplane.kit.leaf import Leaf
from controlplane.kit.loop import run_every
from controlplane.kit.tls import CertificateFiles
from controlplane.main.machine_link import TAKE_UP_S, connect_machine
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
    files = _files(settings.control_plane)
    leaf = Leaf(files)
    async with connect_machine(settings.control_plane, leaf, timeout_s=ANSWER_S) as client:
        renewal = Renewal(files, client, SystemClock())
        reporter = Reporter(client, observer, when_lapsed=renewal.call_lapsed)
        loops = [
            run_every("report", settings.period_s, reporter.report),
            run_every("renewal", renewal.pause_s(), renewal.look),
            run_every("certificate", TAKE_UP_S, leaf.take_up),
        ]
        if settings.witness_dir is not None:
            name = _node_name(files.certificate)
            witness = Witness(client, WitnessFolder(settings.witness_dir), name, SystemClock())
            loops.append(run_every("witness", settings.witness_s, witness.step))
        await asyncio.gather(*loops)


def _node_name(certificate: Path) -> str:
    """Return the name that the site gave this node: the api knows it by nothing else."""
    try:
        return uri_of(x509.load_pem_x509_certificate(certificate.read_bytes())).rpartition("/")[2]
    except (OSError, ValueError, NotTrusted) as error:
        raise BadInput(f"{certificate} names no node: {error}", remedy="issue the node's certificate again") from None


def _files(link: ControlPlaneLink) -> CertificateFiles:
    if link.tls is None:
        raise BadInput(
            "a node is known by its certificate", remedy="name certificate, key and ca in [control_plane.tls]"
        )
    return link.tls.files


if __name__ == "__main__":
    main()
