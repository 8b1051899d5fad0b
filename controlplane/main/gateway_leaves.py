"""The two key pairs of a gateway: one that clients see, one that it shows to the control plane and to runs."""

import ssl
from collections.abc import Callable, Coroutine
from functools import partial

import httpx

from controlplane.client.renewal import Renewal
from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.kit.clock import SystemClock
from controlplane.kit.leaf import Leaf
from controlplane.kit.loop import run_every
from controlplane.kit.tls import pinned_context, server_context
from controlplane.main.machine_link import TAKE_UP_S, connect_machine
from controlplane.main.settings import GatewaySettings

Loop = Callable[[], Coroutine[None, None, None]]


class GatewayLeaves:
    """Makes every context of a gateway, and keeps them on the newest pair."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._front = Leaf(settings.listen.tls.files) if settings.listen.tls else None
        self._own = Leaf(settings.upstream_tls.files)

    def listening(self) -> ssl.SSLContext | None:
        """Return what clients meet; None on loopback without TLS."""
        if self._front is None:
            return None
        return self._front.follow(server_context(self._front.files, client_certificate=False))

    def towards(self, replica: SnapshotReplica) -> ssl.SSLContext:
        """Return what meets one run."""
        return self._own.follow(pinned_context(replica.certificate_pem, self._own.files))

    def connect(self, timeout_s: float) -> httpx.AsyncClient:
        """Return a client of the control plane: by certificate on a site, over loopback on the box."""
        link = self._settings.control_plane
        if link.tls is None:  # plain loopback: a context that trusts nobody, and reads no public CA bundle
            nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return httpx.AsyncClient(base_url=link.url, verify=nobody, timeout=timeout_s, trust_env=False)
        return connect_machine(link, self._own, timeout_s=timeout_s)

    def loops(self, http: httpx.AsyncClient) -> list[Loop]:
        """Return what keeps the pairs new; of several workers one renews and all take it up."""
        found: list[Loop] = [partial(run_every, "certificate", TAKE_UP_S, self._own.take_up)]
        if self._front is not None:
            found.append(partial(run_every, "front_certificate", TAKE_UP_S, self._front.take_up))
        if self._settings.control_plane.tls is not None:
            renewal = Renewal(self._own.files, http, SystemClock())
            found.append(partial(run_every, "renewal", renewal.pause_s(), renewal.look))
        return found
