"""What is told of one request: an intent before anything happens, and one outcome."""

from math import log2

from controlplane.gateway.budget.budgets import Hold
from controlplane.gateway.meter.gaps import A_OCTAVE, SHORTEST_S, Gaps, percentile_us
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import Intent, Outcome, Result
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import NO_WORK, Request
from controlplane.gateway.surroundings import Surroundings

_FREE = frozenset({"tokenize", "count_tokens"})  # no model works for them
_BYTES_A_TOKEN = 4  # of plain text, about, with the vocabularies of today
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
    """Collects what is known of the answer; `end` writes it down once, and later calls do nothing.

    Times are of the process's own clock, in microseconds: the loop's knows whole milliseconds alone.
    """

    __slots__ = (
        "_around",
        "_clock",
        "_first_s",
        "_gaps",
        "_last",
        "_last_s",
        "_open",
        "_replica",
        "_request",
        "_seated_s",
        "_sent_times",
        "_shared_from_s",
        "_waits_s",
        "bytes_out",
        "usage",
    )

    def __init__(self, around: Surroundings, request: Request) -> None:
        self._around = around
        self._request = request
        self._clock = around.time
        self._open = True
        self._waits_s = self._seated_s = self._first_s = self._last_s = 0.0
        self._gaps: Gaps | None = None
        self._replica: Replica | None = None
        self._sent_times = 0
        self._shared_from_s = 0.0
        self.bytes_out = 0
        self._last = (b"", b"", b"")
        self.usage = Usage()

    def waits(self) -> None:
        """It waits for a seat from now on."""
        self._waits_s = self._clock()

    def seated(self) -> None:
        self._seated_s = self._clock()

    def sent_to(self, replica: Replica) -> None:
        """A replica hears of it; it may be the second one."""
        now_s = self._clock() if self._sent_times else self._seated_s
        self._leave(now_s)
        self._sent_times += 1
        self.usage.dispatched = True
        self._replica, self._shared_from_s = replica, replica.shared.enter(now_s)

    def answered(self, body: bytes) -> None:
        """Take note of a whole answer."""
        self.bytes_out += len(body)
        self.usage.read_answer(body)
        if self._request.surface.name in _FREE:
            self.usage.tokens_in = self.usage.tokens_out = 0

    def sent(self, events: bytes) -> None:
        """Take note of whole events of a stream: they are read at its end, but for the first."""
        if not events:
            return
        now_s = self._clock()
        if self.bytes_out:
            gap_s = now_s - self._last_s
            bucket = int(log2(gap_s * 1e6) * A_OCTAVE) if gap_s > SHORTEST_S else 0
            gaps = self._gaps
            if gaps is None:
                self._gaps = {bucket: 1}
            else:
                gaps[bucket] = gaps.get(bucket, 0) + 1
        else:
            self.usage.read_events(events)
            self._first_s = now_s
        self._last_s = now_s
        self.bytes_out += len(events)
        self._last = (self._last[1], self._last[2], events)  # the reason, the usage, the end

    def end(self, hold: Hold, result: Result, status: int, code: str = "") -> None:
        """Write down how it ended, and settle what it held."""
        if not self._open:
            return
        self._open = False
        now_s, usage = self._clock(), self.usage
        if self._first_s:
            usage.read_events(b"".join(self._last))
        self._leave(now_s)
        if self._seated_s:
            usage.wall_us = _to_us(now_s - self._seated_s)
        spent = hold.settle(usage)  # by what the replica told: what it did not tell may be all that was held
        estimated = usage.tokens_out is None and usage.events > 0
        if estimated:
            self._estimate()
        outcome = self._outcome(now_s, result, status, code)
        outcome.spent, outcome.estimated = spent, estimated
        self._around.journal.note(outcome)
        self._around.metrics.ended(outcome, self._gaps)

    def _leave(self, now_s: float) -> None:
        """Count what of the replica's time was this request's."""
        if self._replica is not None:
            own_s = self._replica.shared.leave(now_s, self._shared_from_s)
            self.usage.gpu_us += _to_us(own_s * self._request.endpoint.gpus)

    def _estimate(self) -> None:
        """Nobody told what a broken stream used: an event is a token, and so are some bytes of the question."""
        usage = self.usage
        usage.tokens_out = usage.events
        if usage.tokens_in is None:
            usage.tokens_in = len(self._request.body) // _BYTES_A_TOKEN

    def _outcome(self, now_s: float, result: Result, status: int, code: str) -> Outcome:
        """Return the line: what is alike for all requests of a kind is copied."""
        request, usage, replica = self._request, self.usage, self._replica
        line: Outcome = _line_of(request).__copy__()  # type: ignore[attr-defined] # msgspec has it and tells no type checker
        line.duration_us = duration_us = _to_us(now_s - request.began_s)
        line.at_us = request.at_us + duration_us
        line.bytes_out, line.result, line.status, line.code = self.bytes_out, result, status, code
        line.request = request.request_id.decode()
        if replica is not None:
            spec = replica.spec
            line.replica, line.retries = spec.replica_id, self._sent_times - 1
            line.revision = spec.revision_id or line.revision
        if request.work is not NO_WORK:
            work = request.work
            line.workflow, line.agent, line.run, line.step = work.workflow, work.agent, work.run, work.step
        if self._waits_s:
            line.queue_us = _to_us((self._seated_s or now_s) - self._waits_s)
        line.gpu_us, line.finish = usage.gpu_us, usage.finish
        line.tokens_in, line.tokens_out = usage.tokens_in, usage.tokens_out
        line.tokens_cached, line.tokens_reasoning = usage.tokens_cached, usage.tokens_reasoning
        if self._first_s:
            self._tell_times(line)
        return line

    def _tell_times(self, line: Outcome) -> None:
        """Tell how fast a stream was."""
        line.ttft_us = _to_us(self._first_s - self._request.began_s)
        if self._gaps is not None:
            line.itl_p50_us, line.itl_p99_us = percentile_us(self._gaps, 50), percentile_us(self._gaps, 99)


def _line_of(request: Request) -> Outcome:
    """Return what all requests of a key at one endpoint have in common; nobody may change it."""
    endpoint, grant, priority = request.endpoint, request.grant, request.work.priority
    kind = (endpoint.name, request.surface.name, priority)
    line = grant.lines.get(kind)
    if line is None:
        line = grant.lines[kind] = Outcome(
            at_us=0, bytes_out=0, code="", context_tokens=endpoint.context_tokens, duration_us=0,
            endpoint=endpoint.name, key=grant.key_id, model=endpoint.model, priority=priority, project=grant.project,
            replica="", request="", result="unknown", revision=endpoint.revision_id, status=0,
            surface=request.surface.name, tokens_in=None, tokens_out=None, zone=endpoint.zone,
        )  # fmt: skip
    return line


def _to_us(span_s: float) -> int:
    return max(0, int(span_s * 1e6))
