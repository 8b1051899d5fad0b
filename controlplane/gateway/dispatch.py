"""One request on its way to a replica: choose, connect, send; and send again where that does no harm."""

import asyncio
from typing import Protocol

import structlog

from controlplane.gateway.errors import NoReplica, Refusal, ReplicaLost
from controlplane.gateway.link import Asker, Link
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request
from controlplane.gateway.routing.router import Plan, Visit
from controlplane.gateway.surroundings import Surroundings
from controlplane.gateway.suspects import MOST_LOSSES

log = structlog.get_logger()


class Sender(Asker, Protocol):
    """Whose request it is."""

    def sent_to(self, replica: Replica) -> None:
        """Hear which replica gets it now; it may be the second."""
        ...

    def undelivered(self, refusal: Refusal) -> None:
        """Hear that no replica will answer it."""
        ...


class _Nobody:
    """Whose request it was once it is over."""

    def sent_to(self, replica: Replica) -> None:
        """Do nothing."""

    def undelivered(self, refusal: Refusal) -> None:
        """Do nothing."""

    def answered(self, status: int, body: bytes) -> None:
        """Do nothing."""

    def stream_continued(self, payload: bytes, *, done: bool) -> None:
        """Do nothing."""

    def link_lost(self, *, silent: bool) -> None:
        """Do nothing."""


_NOBODY = _Nobody()


class Dispatch:
    """`endpoint` is as the snapshot had it when the request was sent last."""

    __slots__ = (
        "_around",
        "_failures",
        "_fresh",
        "_last",
        "_link",
        "_opening",
        "_plan",
        "_request",
        "_sender",
        "_tried",
        "_verdict",
        "_visit",
        "body",
        "endpoint",
    )

    def __init__(self, around: Surroundings, request: Request, sender: Sender) -> None:
        self._around = around
        self._request = request
        self._sender: Sender = sender
        self.endpoint = request.endpoint
        self.body = b""
        self._plan = Plan(around, request)
        self._visit: Visit | None = None
        self._last: Visit | None = None
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tried: tuple[Replica, ...] = ()
        self._failures = 0  # of replicas, with this request
        self._verdict: Refusal | None = None
        self._fresh = False

    @property
    def replica_id(self) -> str:
        return self._visit.replica.spec.replica_id if self._visit else ""

    def begin(self, body: bytes) -> None:
        """Send it to the best replica."""
        self.body = body
        self._start()

    def try_another(self) -> None:
        """Send it to a replica that has not had it."""
        if self._visit is not None:
            self._tried = (*self._tried, self._visit.replica)
        self.let_go()
        self._start()

    def lost(self, *, silent: bool) -> None:
        """The link is gone before any of an answer went on: send it again, or give up.

        A link that had been idle may have been closed before this request came: the same replica is asked once more.
        """
        visit, link = self._visit, self._link
        if self._failures >= MOST_LOSSES:
            self.failed()
            self.let_go()
            self._sender.undelivered(lost())
        elif silent and visit is not None and not visit.replica.cut_off and link is not None and link.reused:
            self._fresh = True
            self._link = None
            self._connect(visit)
        else:
            self.failed()
            self.try_another()

    def go_on(self, body: bytes) -> None:
        """A stream broke: another replica of the same revision takes it up with this body."""
        self.failed()
        if self._visit is not None:
            self._plan.stay_on(self._visit.replica.revision)
        now = self._around.endpoint_now(self.endpoint)
        if self._failures >= MOST_LOSSES or now.revision_id != self.endpoint.revision_id:
            self.let_go()
            self._sender.undelivered(lost())
        else:
            self.body = body
            self.try_another()

    def drop(self) -> None:
        """End the link at once; the replica is still the one that had it."""
        self._failures += 1
        self._verdict = lost()
        if self._link is not None:
            self._link.drop()

    def nothing_made(self, usage: Usage) -> None:
        """A replica refused it. Where one was lost with it before, nobody knows what that one made."""
        if self._verdict is None:
            usage.tokens_in = usage.tokens_out = 0

    def answered(self) -> None:
        """A whole answer came: whatever was lost, it was not for this request."""
        self._around.suspects.answered(self._request, self._request.at_us / 1e6)
        self.heard()
        self.let_go()

    def count_loss(self) -> None:
        """The link is gone. A replica that we cut off ourselves was not lost by anything that it was asked."""
        if self._visit is not None and not self._visit.replica.cut_off:
            self._failures += 1
            self._verdict = lost()
            self._around.suspects.lost(self._request, self.replica_id, self._around.wall_s())

    def heard(self) -> None:
        """An answer has begun."""
        if self._visit is not None:
            self._visit.heard()

    def failed(self) -> None:
        """The replica hung up on it, or cannot be reached: others come first for a while."""
        if self._visit is not None:
            self._visit.replica.standing.failed(self._around.tick, self._around.limits.rest_s)

    def erred(self, status: int) -> None:
        """The replica answered that it failed. That may be the request's fault: one other replica is asked."""
        log.warning("replica.failed", replica=self.replica_id, status=status, request=self._request.request_id.decode())
        self._failures += 1
        self._verdict = ReplicaLost("the replica failed on this request", remedy="change the request or try again")
        if self._visit is not None:
            self._visit.replica.standing.erred(self._around.tick, self._around.limits.rest_s)
        if self._failures < MOST_LOSSES:
            self.try_another()
        else:
            self.let_go()
            self._sender.undelivered(self._verdict)

    def stop(self) -> None:
        """End it wherever it is; the sender hears nothing more."""
        if self._link is not None:
            self._link.drop()
        self.let_go()

    def let_go(self) -> None:
        """The replica has nothing more to do with it."""
        if self._opening is not None:
            self._opening.cancel()
        if self._visit is not None:
            self._visit.leave()
            self._last = self._visit
        self._visit = self._link = self._opening = None

    def learn(self, usage: Usage) -> None:
        """Take note of what the replica had cached, as its answer says."""
        if self._last is not None:
            self._last.learn(usage)

    def forget(self) -> None:
        """The request is over. Its sender holds this: without a way back both go at once, not at a collection."""
        self._sender = _NOBODY

    def pause(self) -> None:
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        if self._link is not None:
            self._link.resume()

    def _start(self) -> None:
        endpoint = self.endpoint = self._around.endpoint_now(self.endpoint)
        try:
            visit = self._plan.choose(endpoint, self._tried)
        except Refusal as refusal:
            self._sender.undelivered(refusal)
            return
        if visit is None:
            self._sender.undelivered(self._nobody_left())
        else:
            self._take(visit)

    def _take(self, visit: Visit) -> None:
        self._visit = visit
        link = visit.replica.idle_link()
        if link is None:
            self._connect(visit)
        else:
            self._send(visit.replica, link)

    def _connect(self, visit: Visit) -> None:
        opening = self._open(visit.replica, fresh=self._fresh)
        self._opening = asyncio.get_running_loop().create_task(opening)

    async def _open(self, replica: Replica, *, fresh: bool) -> None:
        try:
            link = await replica.open_link(fresh=fresh)
        except (OSError, ValueError) as error:  # ValueError: a certificate that cannot be read
            self._opening = None
            log.warning(
                "replica.unreachable", replica=replica.spec.replica_id, error=f"{type(error).__name__}: {error}"
            )
            self.failed()
            self.try_another()
        else:
            self._opening = None
            self._send(replica, link)

    def _send(self, replica: Replica, link: Link) -> None:
        self._link = link
        self._sender.sent_to(replica)
        request = self._request
        link.send(self._sender, replica.request(request.surface.engine_path, request.request_id, self.body))

    def _nobody_left(self) -> Refusal:
        name = self.endpoint.name
        if self._verdict is not None:
            return self._verdict
        if self._tried:
            return NoReplica(f"no replica of {name} can be reached or has room", remedy="try again in a few seconds")
        return NoReplica(f"{name} has no ready replica", remedy="try again in a few seconds")


def lost() -> Refusal:
    return ReplicaLost("the replica was lost before the answer was complete", remedy="send the request again")
