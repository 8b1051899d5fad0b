"""What is told of one request: an intent before anything happens, and one outcome."""

import re
from collections.abc import Callable

from controlplane.gateway.budget.budgets import Hold
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import Intent, Outcome, Result
from controlplane.gateway.request import Request
from controlplane.gateway.spool import Journal

_TOKENS = re.compile(rb'"(prompt|completion)_tokens":[ \t]*([0-9]{1,15})')
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

    __slots__ = ("_clock", "_journal", "_open", "_request", "bytes_out", "replica", "usage")

    def __init__(self, journal: Journal, request: Request, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._request = request
        self._clock = clock
        self._open = True
        self.replica = ""
        self.bytes_out = 0
        self.usage = Usage()

    def sent(self, payload: bytes) -> None:
        """Take note of a part of the answer that goes to the client, and of the tokens if it tells of them."""
        self.bytes_out += len(payload)
        if b'"usage"' in payload:
            for name, count in _TOKENS.findall(payload, payload.rindex(b'"usage"')):
                if name == b"prompt":
                    self.usage.tokens_in = int(count)
                else:
                    self.usage.tokens_out = int(count)

    def end(self, hold: Hold, result: Result, status: int, code: str = "") -> None:
        """Write down how it ended, and settle what it held."""
        if not self._open:
            return
        self._open = False
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
