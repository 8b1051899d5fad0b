"""One run from its bound port to its end."""

import asyncio
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NoReturn

import structlog

from controlplane.contracts.runs import RegisterRun, RunPhase, RunSpec
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import SelfSigned, self_signed
from controlplane.kit.tls import run_server_context
from controlplane.runner.adapter import Adapter
from controlplane.runner.admission import Admission
from controlplane.runner.control import ControlLink
from controlplane.runner.gpus import own_gpus
from controlplane.runner.lease import Lease
from controlplane.runner.llama_cpp import COMPLETE, EMBED, RANK
from controlplane.runner.ports import address_towards, bind_port
from controlplane.runner.relay import Relay
from controlplane.runner.scratch import private_directory
from controlplane.runner.server import InferenceServer
from controlplane.runner.surroundings import DRAINED, FAILED, FENCED, RunOver, Surroundings
from controlplane.runner.weights import verify_weights

ADAPTERS: dict[str, Adapter] = {"llama_cpp": COMPLETE, "embed": EMBED, "rerank": RANK}
DRAIN_GRACE_S = 25.0  # below Slurm's KillWait, so that the run ends by itself
LOOK_EVERY_S = 1.0
GATEWAYS_LEARN_S = 2.0  # a gateway asks for its snapshot every half second

log = structlog.get_logger()


async def run(spec: RunSpec, around: Surroundings, lease: Lease) -> int:
    """Serve until drained, fenced or failed; return the exit status (see `surroundings`)."""
    async with AsyncExitStack() as stack:
        this = _Run(spec, around, lease, stack)
        over = await _first_end(this.live(), this.renew(), this.watch_lease(), this.stop_early())
        log.info("run.over", replica=spec.replica_id, status=over.exit_code, detail=over.detail)
        if over.exit_code == FAILED:
            await this.link.say_failed(over.detail)
        return over.exit_code


async def _first_end(*ways: Coroutine[None, None, NoReturn]) -> RunOver:
    """Live beside what may end the life early; the first to raise RunOver decides."""
    over = RunOver(FAILED, "the run ended without a reason")
    try:
        async with asyncio.TaskGroup() as group:
            for way in ways:
                group.create_task(way)
    except* RunOver as ends:
        over = next(end for end in ends.exceptions if isinstance(end, RunOver))
    return over


class _Run:
    """What lives as long as the run does; `stack` undoes it in reverse order."""

    def __init__(self, spec: RunSpec, around: Surroundings, lease: Lease, stack: AsyncExitStack) -> None:
        self.link = ControlLink(spec, lease)
        stack.push_async_callback(self.link.aclose)
        self._spec = spec
        self._around = around
        self._lease = lease
        self._stack = stack
        self._fenced = asyncio.Event()
        lease.when_over(self._fenced.set)
        self._registered = asyncio.Event()
        self._ready = False
        self._stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self._stop.set)

    async def live(self) -> NoReturn:
        """Bind, register, verify, start, prove, serve, drain."""
        identity = self_signed(self._spec.replica_id)
        bound = await self._register(identity)
        adapter = _adapter(self._spec.adapter)
        await verify_weights(Path(self._spec.model_path), self._spec.model_sha256)
        server = await self._start_server(adapter)
        await _unless_dead(server, server.prove(adapter, self._spec))
        relay = self._relay_to(server)
        await relay.listen(bound, run_server_context(identity, self._spec.site_ca_pem))
        self._ready = True
        self.link.say(RunPhase.READY)
        await _unless_dead(server, self._told_to_stop())
        self.link.say(RunPhase.DRAINING)
        await _unless_dead(server, _drain(relay))
        raise RunOver(DRAINED, "drained")

    async def renew(self) -> NoReturn:
        """Keep the lease from the moment it exists."""
        await self._registered.wait()
        await self.link.keep_lease()
        raise RunOver(FENCED, self._lease.over_because)

    async def watch_lease(self) -> NoReturn:
        """End with the lease; waking every second is how a process that was frozen finds out."""
        while self._lease.holds():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._fenced.wait()
        raise RunOver(FENCED, self._lease.over_because)

    async def stop_early(self) -> NoReturn:
        """End at once when told to stop before anybody could connect."""
        await self._told_to_stop()
        if not self._ready:
            raise RunOver(DRAINED, "stopped before it was ready")
        await asyncio.Event().wait()  # from here on `live` drains
        raise AssertionError

    async def _register(self, identity: SelfSigned) -> socket.socket:
        host = self._spec.bind_host or address_towards(self._spec.api_url)
        bound = self._stack.enter_context(bind_port(host, self._spec.first_port, self._spec.last_port))
        gpus = own_gpus(self._spec.gpus, self._around.environment)
        ask = RegisterRun(
            replica_id=self._spec.replica_id,
            nonce=self._spec.nonce,
            job_id=self._around.job_id,
            node=self._around.node,
            host=host,
            port=bound.getsockname()[1],
            certificate_pem=identity.certificate_pem.decode(),
            gpu_uuids=gpus.uuids,
        )
        await self.link.register(ask)
        self._registered.set()
        if gpus.problem:
            raise RunOver(FAILED, gpus.problem)
        return bound

    async def _start_server(self, adapter: Adapter) -> InferenceServer:
        directory = self._stack.enter_context(private_directory(self._around.scratch))
        unix_socket = directory / "server.sock"
        command = adapter.command(self._spec, unix_socket, cpus=self._around.cpus)
        server = await InferenceServer.start(command, unix_socket, self._around.environment)
        self._lease.when_over(server.kill)
        return await self._stack.enter_async_context(server)

    def _relay_to(self, server: InferenceServer) -> Relay:
        admission = Admission(self._spec.gateway_uri, SystemClock().now)
        relay = Relay(admission, server.socket, self._lease, self.link.settle_doubt)
        self.link.when_told_of_refused(relay.refuse)
        self._lease.when_over(relay.cut)
        self._stack.callback(relay.cut)
        return relay

    async def _told_to_stop(self) -> None:
        ways = [asyncio.ensure_future(event.wait()) for event in (self._stop, self.link.told_to_drain)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()


def _adapter(name: str) -> Adapter:
    if (adapter := ADAPTERS.get(name)) is None:
        raise RunOver(FAILED, f"this runner has no adapter {name!r}: it has {', '.join(ADAPTERS)}")
    return adapter


async def _unless_dead(server: InferenceServer, work: Coroutine[None, None, None]) -> None:
    """Do the work, or raise RunOver as soon as the inference server is gone."""
    doing, dying = asyncio.ensure_future(work), asyncio.ensure_future(server.died())
    try:
        await asyncio.wait((doing, dying), return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            raise RunOver(FAILED, dying.result())
        await doing
    finally:
        doing.cancel()
        dying.cancel()


async def _drain(relay: Relay) -> None:
    """Let gateways learn that this run is leaving, then wait for the last answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_GRACE_S):
            await asyncio.sleep(GATEWAYS_LEARN_S)
            await relay.until_idle()
