"""One replica as this process sees it: its open links, and how it stands."""

import asyncio
import ssl
from collections.abc import Callable

from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.gateway.limits import Limits
from controlplane.gateway.link import Link
from controlplane.gateway.meter.shared_time import SharedTime
from controlplane.gateway.routing.standing import Standing
from controlplane.gateway.shared_table import digest_of

# None means a plain connection; only the bench asks for one.
ContextFor = Callable[[SnapshotReplica], ssl.SSLContext | None]


class Replica:
    """`standing` steers the choice; `revision` is a digest. One that is `cut_off` never answers a client again."""

    def __init__(self, spec: SnapshotReplica, *, limits: Limits, context_for: ContextFor) -> None:
        self.spec = spec
        self.standing = Standing()
        self.shared = SharedTime()
        self.revision = digest_of(spec.revision_id)
        self.home_seed = digest_of(spec.replica_id)
        self.cut_off = False
        self.tick = 0.0  # the loop's time at the last sweep
        self._request_head = (f" HTTP/1.1\r\nhost: {spec.replica_id}\r\ncontent-type: application/json\r\n").encode()
        self._limits = limits
        self._context_for = context_for
        self._context: ssl.SSLContext | None = None
        self._draining = spec.draining
        self._handshakes = asyncio.Semaphore(limits.handshakes)
        self._idle: list[Link] = []
        self._links: set[Link] = set()

    def request(self, path: bytes, request_id: bytes, body: bytes) -> bytes:
        """Return a whole request as this replica is sent it."""
        head = b"POST %b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n"
        return head % (path, self._request_head, request_id, len(body)) + body

    def idle_link(self) -> Link | None:
        """Take the link that was used last, if one waits."""
        while self._idle:
            link = self._idle.pop()
            if link.usable:
                return link
        return None

    async def open_link(self, *, fresh: bool) -> Link:
        """Connect, or take a link that was freed meanwhile unless it must be `fresh`.

        Raises OSError (TimeoutError and ssl.SSLError are of its kind).
        """
        async with self._handshakes:
            link = None if fresh else self.idle_link()
            return link or await self._connect()

    async def _connect(self) -> Link:
        context, link = self._tls(), Link(self, self._limits.answer_bytes)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    self.spec.host,
                    self.spec.port,
                    ssl=context,
                    server_hostname=self.spec.replica_id if context else None,
                )
        except BaseException:
            link.abandon()  # cancelled in the very moment in which it connected
            raise
        if self.cut_off:
            link.drop()
            raise ConnectionAbortedError("the replica is no longer in the snapshot")
        self._links.add(link)
        return link

    def _tls(self) -> ssl.SSLContext | None:
        if self._context is None:
            self._context = self._context_for(self.spec)
        return self._context

    def link_freed(self, link: Link) -> None:
        if self._draining or self.cut_off:
            link.close()
        else:
            self._idle.append(link)
            link.idle_since = self.tick

    def link_lost(self, link: Link) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def close_idle(self, *, before: float) -> None:
        """Close every link that has been idle since before that moment."""
        while self._idle and self._idle[0].idle_since <= before:
            self._idle.pop(0).close()

    def follow(self, spec: SnapshotReplica) -> None:
        """Take the newest word on it. One that drains keeps no idle link; its runner waits for that."""
        self._draining = spec.draining
        if spec.draining:
            self.close_idle(before=float("inf"))

    def cut(self) -> None:
        """End everything that runs there: the control plane no longer vouches for it."""
        self.cut_off = True
        for link in tuple(self._links):
            link.cut()
