"""What is told of one request: an intent before anything happens, and one outcome."""

from collections.abc import Callable

from controlplane.gateway.budget.budgets import Hold
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import Intent, Outcome, Result
from controlplane.gateway.request import Request
from controlplane.gateway.spool import Journal

_FREE = frozenset({"tokenize", "count_tokens"})  # no model works for them
CLIENT_LEFT = 499  # no status was sent; nginx's word for it


def to_intent(request: Request, hold: Hold) -> Intent:
    directory, grant, terms, work, endpoint = (
        request.directory, request.grant, request.terms, request.work, request.endpoint,
    )  # fmt: skip
    return Intent(
        agent=work.agent,
        at_us=request.at_us,
        bytes_in=len(request.body),
        classification=terms.classification,
        endpoint=endpoint.name,
        held=hold.amounts,
        key=grant.key_id,
        policy=directory.policy_sha256,
        priority=work.priority,
        project=grant.project,
        purpose=terms.purpose,
        request=request.request_id.decode(),
        retry=hold.retry,
        revision=endpoint.revision_id,
        run=work.run,
        secret=grant.secret_id,
        snapshot=directory.version,
        source=request.source,
        step=work.step,
        streamed=request.ask.streamed,
        surface=request.surface.name,
        workflow=work.workflow,
        zone=endpoint.zone,
    )


class Trail:
    """Collects what is known of the answer; `end` writes it down once, and later calls do nothing."""

    __slots__ = ("_clock", "_journal", "_last", "_open", "_request", "bytes_out", "replica", "usage")

    def __init__(self, journal: Journal, request: Request, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._request = request
        self._clock = clock
        self._open = True
        self.replica = ""
        self.bytes_out = 0
        self._last = (b"", b"", b"")
        self.usage = Usage()

    def answered(self, body: bytes) -> None:
        """Take note of a whole answer."""
        self.bytes_out += len(body)
        self.usage.read_answer(body)
        if self._request.surface.name in _FREE:
            self.usage.tokens_in = self.usage.tokens_out = 0

    def sent(self, events: bytes) -> None:
        """Take note of whole events of a stream: they are read at its end, but for the first."""
        if not self.bytes_out:
            self.usage.read_events(events)
        self.bytes_out += len(events)
        self._last = (self._last[1], self._last[2], events)  # the reason, the usage, the end

    def end(self, hold: Hold, result: Result, status: int, code: str = "") -> None:
        """Write down how it ended, and settle what it held."""
        if not self._open:
            return
        self._open = False
        self.usage.read_events(b"".join(self._last))
        request, usage = self._request, self.usage
        duration_us = int((self._clock() - request.began_s) * 1e6)
        work = request.work
        self._journal.note(
            Outcome(
                agent=work.agent,
                at_us=request.at_us + duration_us,
                bytes_out=self.bytes_out,
                code=code,
                duration_us=duration_us,
                endpoint=request.endpoint.name,
                finish=usage.finish,
                key=request.grant.key_id,
                model=request.endpoint.model,
                priority=work.priority,
                project=request.grant.project,
                replica=self.replica,
                request=request.request_id.decode(),
                result=result,
                revision=request.endpoint.revision_id,
                run=work.run,
                spent=hold.settle(usage),
                status=status,
                step=work.step,
                surface=request.surface.name,
                tokens_cached=usage.tokens_cached,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                tokens_reasoning=usage.tokens_reasoning,
                workflow=work.workflow,
                zone=request.endpoint.zone,
            )
        )
