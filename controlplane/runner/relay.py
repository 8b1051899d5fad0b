"""Bytes between the gateway's TLS connections and the inference server's unix socket, as long as the lease holds."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import structlog

from controlplane.contracts.runs import RefusedMachine
from controlplane.runner.admission import Admission, Shown, read_shown
from controlplane.runner.lease import Lease

log = structlog.get_logger()


class Relay:
    """Lets in one client identity, copies bytes both ways, and can be cut in an instant."""

    def __init__(
        self, admission: Admission, upstream: Path, lease: Lease, settle_doubt: Callable[[], Awaitable[None]]
    ) -> None:
        self.lease = lease
        self._settle_doubt = settle_doubt
        self._admission = admission
        self._upstream = upstream
        self._open: set[_GatewaySide] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._listener: asyncio.Server | None = None

    async def listen(self, bound: socket.socket, context: ssl.SSLContext) -> None:
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: _GatewaySide(self),
            sock=bound,
            ssl=context,
            backlog=256,
            ssl_handshake_timeout=5,
            ssl_shutdown_timeout=2,
        )

    def cut(self) -> None:
        """Close everything without sending another byte."""
        if self._listener is not None:
            self._listener.close()
        for side in tuple(self._open):
            side.abort()

    async def until_idle(self) -> None:
        """Wait until no connection is open."""
        await self._idle.wait()

    async def connect(self, side: "_ServerSide") -> None:
        """Connect one side to the inference server; in doubt the control plane is asked first."""
        if self.lease.in_doubt:
            await self._settle_doubt()
        if not self.lease.holds():
            raise ConnectionAbortedError(self.lease.over_because)
        await asyncio.get_running_loop().create_unix_connection(lambda: side, str(self._upstream))

    def admits(self, transport: asyncio.Transport) -> bool:
        """Let in the gateway only: the site CA signs for other services too."""
        if why := self._admission.refusal(_shown_by(transport)):
            log.warning("relay.refused", peer=transport.get_extra_info("peername"), why=why)
            return False
        return self.lease.holds()

    def refuse(self, refused: Sequence[RefusedMachine]) -> None:
        """Take the newest word on who was revoked; what such a machine has open ends at once."""
        self._admission.refused = refused
        for side in tuple(self._open) if refused else ():
            shown = _shown_by(side.transport) if side.transport is not None else None
            if shown is not None and self._admission.is_revoked(shown):
                side.abort()

    def opened(self, side: "_GatewaySide") -> None:
        self._open.add(side)
        self._idle.clear()

    def closed(self, side: "_GatewaySide") -> None:
        self._open.discard(side)
        if not self._open:
            self._idle.set()


def _shown_by(transport: asyncio.Transport) -> Shown | None:
    tls = transport.get_extra_info("ssl_object")
    return read_shown(tls.getpeercert(binary_form=True)) if isinstance(tls, ssl.SSLObject) else None


class _Side(asyncio.Protocol):
    """What one side reads, the other writes; what one side cannot take, the other stops reading."""

    transport: asyncio.Transport | None = None

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # asyncio types the base class only

    def data_received(self, data: bytes) -> None:
        if self._relay.lease.holds() and self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _GatewaySide(_Side):
    """Reads nothing until the inference server is connected."""

    _connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None  # noqa: S101 - set by the line above
        if not self._relay.admits(self.transport):
            self.transport.abort()
            return
        self._relay.opened(self)
        self.transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect())

    def connection_lost(self, _error: Exception | None) -> None:
        self._relay.closed(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self.other is not None:
            self.other.abort()  # nobody waits for the answer: let the server stop generating

    def abort(self) -> None:
        super().abort()
        if self.other is not None:
            self.other.abort()

    async def _connect(self) -> None:
        server = _ServerSide(self._relay)
        self.other, server.other = server, self
        try:
            await self._relay.connect(server)
        except OSError as error:
            log.warning("relay.no_server", error=str(error))
            self.abort()
            return
        if self.transport is not None:
            self.transport.resume_reading()


class _ServerSide(_Side):
    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # what was read is sent first
