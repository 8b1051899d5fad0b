"""The gateway process: `python -m controlplane.main.gateway --config FILE`."""

import argparse
import asyncio
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from controlplane.gateway.budget.accounts import Accounts
from controlplane.gateway.budget.count import PromptCounter
from controlplane.gateway.budget.follower import LEAST_PAUSE_S, AllotmentFollower
from controlplane.gateway.budget.ledger import Ledger
from controlplane.gateway.budget.retries import Retries
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits
from controlplane.gateway.records import Chain, Closed, Opened
from controlplane.gateway.replica import ContextFor
from controlplane.gateway.server import Listener, serve, stop_on_signals
from controlplane.gateway.shared_table import SharedTable
from controlplane.gateway.shipper import Shipper
from controlplane.gateway.snapshot import SnapshotFile, SnapshotFollower
from controlplane.gateway.spool import Spool
from controlplane.gateway.spool_file import SpoolFile
from controlplane.gateway.spool_folder import SpoolReader, make_spool
from controlplane.gateway.workers import Start, Workers, bind
from controlplane.kit.clock import SystemClock, to_us
from controlplane.kit.crypto import load_verify_key
from controlplane.kit.errors import BadInput, RedoubtError, Unavailable
from controlplane.kit.log import configure_logging
from controlplane.kit.loop import run_every
from controlplane.main.gateway_files import files_of
from controlplane.main.gateway_leaves import GatewayLeaves, Loop
from controlplane.main.gateway_metrics import metrics_of
from controlplane.main.gateway_node import adopt_and_publish, memory_of, share_with_workers
from controlplane.main.settings import ControlPlaneLink, GatewaySettings, read_settings

_POLL_TIMEOUT_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="redoubt-gateway", description="OpenAI-compatible gateway of one site")
    parser.add_argument("--config", type=Path, required=True, help="settings file (TOML)")
    path: Path = parser.parse_args().config
    configure_logging("gateway")
    read = partial(read_settings, GatewaySettings, path)
    try:
        sys.exit(run(read(), read=read))
    except RedoubtError as error:
        sys.stderr.write(f"gateway: {error.detail}; {error.remedy}\n")
        sys.exit(error.exit_code)


def run(
    settings: GatewaySettings,
    *,
    limits: Limits | None = None,
    context_for: ContextFor | None = None,
    read: Callable[[], GatewaySettings] | None = None,
) -> int:
    """Serve until SIGTERM; return the exit status. The bench gives its own `context_for`.

    Workers that take over after SIGHUP `read` the settings again, but for the address and their number.
    """
    limits = limits or Limits()
    line = _bind(settings)
    if settings.workers == 1:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nobody could take over
        uvloop.run(_serve(settings, limits, context_for, Start(line), None))
        return 0
    host, port = line.getsockname()[:2]
    memory = memory_of(settings)

    def work(start: Start) -> int:
        uvloop.run(_serve(read() if read else settings, limits, context_for, start, memory))
        return 0

    lines = [line, *(bind(host, port) for _ in range(settings.workers - 1))]
    return Workers(lines, work, grace_s=limits.drain_s + 5).run()


async def _serve(
    settings: GatewaySettings, limits: Limits, context_for: ContextFor | None, start: Start, memory: int | None
) -> None:
    clock = SystemClock()
    root = settings.state_dir / "spool"
    folder, lock = _make_spool(root)
    opened = Opened(at_us=to_us(clock.now()), node=socket.gethostname().partition(".")[0])
    spool = Spool(SpoolFile(folder, Chain()), opened, most_bytes=settings.spool_bytes)
    leaves = GatewayLeaves(settings)
    hub = Hub(limits=limits, clock=clock, context_for=context_for or leaves.towards, journal=spool)
    shared = share_with_workers(hub, settings, memory)
    listener = Listener(start.line, leaves.listening())
    stop = stop_on_signals(limits, relieved=start.lifeline is not None)
    if start.lifeline is not None:
        asyncio.get_running_loop().add_reader(start.lifeline, stop.now)  # readable only at its end: the parent is gone
    async with leaves.connect(_POLL_TIMEOUT_S) as http:
        follower = SnapshotFollower(
            http=http,
            file=SnapshotFile(settings.state_dir),
            key=_verify_key(settings),
            site=settings.site,
            bearer=partial(_bearer, settings.control_plane),
            adopt=partial(adopt_and_publish, hub, settings),
        )
        follower.start_from_file()
        shipper = Shipper(
            http=http,
            bearer=partial(_bearer, settings.control_plane),
            spool=spool,
            own=SpoolReader(folder, lock),
            root=root,
            clock=clock,
        )
        allotments = _make_budgets(hub, settings, folder.name, http)
        loops: list[Loop] = [
            partial(run_every, "snapshot", settings.poll_s, follower.poll),
            partial(run_every, "allotments", LEAST_PAUSE_S, allotments.step),
            partial(run_every, "spool", settings.ship_s, shipper.step),
            *leaves.loops(http),
            *shared,
        ]
        async with metrics_of(hub, settings, spool), files_of(hub, settings) as files:
            await serve(hub, listener, [*loops, *files], stop, start.ready)
        with suppress(Unavailable):
            await allotments.give_back()
        await spool.close(Closed(at_us=to_us(clock.now())))


def _make_budgets(hub: Hub, settings: GatewaySettings, boot: str, http: httpx.AsyncClient) -> AllotmentFollower:
    """Let the hub clear every request with budgets; return what keeps allotments."""
    woken = asyncio.Event()
    ledger = Ledger(
        Accounts(boot, workers=settings.workers),
        clock=hub.clock,
        now_s=hub.time,
        wake=woken.set,
        soon=asyncio.get_running_loop().call_soon,
        retries=Retries(SharedTable(settings.state_dir / "retries", buckets=1 << 12), hub.wall_s),
        count=PromptCounter(hub.endpoint_now).count,
        is_leaving=lambda: hub.draining,
    )
    hub.budgets = ledger
    return AllotmentFollower(http, partial(_bearer, settings.control_plane), ledger, woken)


def _make_spool(root: Path) -> tuple[Path, int]:
    try:
        return make_spool(root, secrets.token_hex(16))
    except OSError as error:
        detail = f"no spool can be made in {root}: {error}"
        raise Unavailable(detail, remedy="free space on that disk, or give the folder to the gateway's user") from None


def _bind(settings: GatewaySettings) -> socket.socket:
    try:
        return bind(settings.listen.host, settings.listen.port)
    except OSError as error:
        where = f"{settings.listen.host}:{settings.listen.port}"
        raise Unavailable(
            f"cannot listen on {where}: {error.strerror}", remedy="free the address or change [listen]"
        ) from None


def _bearer(link: ControlPlaneLink) -> str | None:
    return link.token_file.read_text().strip() if link.token_file else None


def _verify_key(settings: GatewaySettings) -> Ed25519PublicKey:
    try:
        return load_verify_key(settings.snapshot_public_key)
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(
            f"snapshot_public_key cannot be read: {error}", remedy="give the PEM that the reconciler signs with"
        ) from None


if __name__ == "__main__":
    main()
