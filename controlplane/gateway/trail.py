"""What is told of one request: an intent before anything happens, and one outcome."""

import re
from collections.abc import Callable

import msgspec

from controlplane.gateway.directory import Directory, Endpoint, Grant, Terms
from controlplane.gateway.records import Intent, Outcome, Result
from controlplane.gateway.spool import Journal

_TOKENS = re.compile(rb'"(prompt|completion)_tokens":[ \t]*([0-9]{1,15})')
CLIENT_LEFT = 499  # no status was sent; nginx's word for it


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What a request is, before it is sent anywhere."""

    request_id: bytes
    source: str
    bytes_in: int
    streamed: bool
    at_us: int


def to_intent(asked: Asked, directory: Directory, grant: Grant, terms: Terms, endpoint: Endpoint) -> Intent:
    return Intent(
        at_us=asked.at_us,
        bytes_in=asked.bytes_in,
        classification=terms.classification,
        endpoint=endpoint.name,
        key=grant.key_id,
        policy=directory.policy_sha256,
        project=grant.project,
        purpose=terms.purpose,
        request=asked.request_id.decode(),
        revision=endpoint.revision_id,
        secret=grant.secret_id,
        snapshot=directory.version,
        source=asked.source,
        streamed=asked.streamed,
        zone=endpoint.zone,
    )


class Trail:
    """Collects what is known of the answer; `end` writes it down once, and later calls do nothing."""

    __slots__ = (
        "_began_s",
        "_clock",
        "_intent",
        "_journal",
        "_open",
        "bytes_out",
        "replica",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self, journal: Journal, intent: Intent, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._intent = intent
        self._clock = clock
        self._began_s = clock()
        self._open = True
        self.replica = ""
        self.bytes_out = 0
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None

    def sent(self, payload: bytes) -> None:
        """Take note of a part of the answer that goes to the client, and of the tokens if it tells of them."""
        self.bytes_out += len(payload)
        if b'"usage"' in payload:
            for name, count in _TOKENS.findall(payload, payload.rindex(b'"usage"')):
                if name == b"prompt":
                    self.tokens_in = int(count)
                else:
                    self.tokens_out = int(count)

    def end(self, result: Result, status: int, code: str = "") -> None:
        if not self._open:
            return
        self._open = False
        intent = self._intent
        duration_us = int((self._clock() - self._began_s) * 1e6)
        self._journal.note(
            Outcome(
                at_us=intent.at_us + duration_us,
                bytes_out=self.bytes_out,
                code=code,
                duration_us=duration_us,
                endpoint=intent.endpoint,
                key=intent.key,
                project=intent.project,
                replica=self.replica,
                request=intent.request,
                result=result,
                status=status,
                tokens_in=self.tokens_in,
                tokens_out=self.tokens_out,
            )
        )
