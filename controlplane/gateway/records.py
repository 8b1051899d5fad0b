"""The lines of a spool as this process makes them; their shapes are those of contracts.spool."""

from hashlib import sha256
from typing import Literal

import msgspec

from controlplane.contracts.spool import FIRST_PREV

Result = Literal["answered", "failed", "cancelled", "unknown"]
Amount = tuple[str, int]  # of one account of a budget

_ENCODER = msgspec.json.Encoder(order="sorted")  # sorted and without white space: canonical for texts and integers


class Record(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """`prev`, `seq` and `v` are filled in when the line's place in the chain is known.

    Defaults are left out of a line. msgspec compares them by identity, so they are (), "", 0, False or None alone.
    """

    at_us: int
    prev: str = ""
    seq: int = -1
    v: int = 0


class Opened(Record, tag_field="kind", tag="opened"):
    node: str


class Intent(Record, tag_field="kind", tag="intent"):
    bytes_in: int
    classification: int
    endpoint: str
    key: str
    policy: str
    project: str
    purpose: str
    request: str
    revision: str
    secret: str
    snapshot: int
    source: str
    streamed: bool
    zone: str
    agent: str = ""
    held: tuple[Amount, ...] = ()
    priority: str = ""
    retry: bool = False
    run: str = ""
    step: str = ""
    surface: str = ""
    workflow: str = ""


class Outcome(Record, tag_field="kind", tag="outcome"):
    bytes_out: int
    code: str
    duration_us: int
    endpoint: str
    key: str
    project: str
    replica: str
    request: str
    result: Result
    status: int
    tokens_in: int | None
    tokens_out: int | None
    agent: str = ""
    context_tokens: int = 0
    estimated: bool = False
    finish: str = ""
    gpu_us: int = 0
    itl_p50_us: int | None = None
    itl_p99_us: int | None = None
    model: str = ""
    priority: str = ""
    queue_us: int = 0
    retries: int = 0
    revision: str = ""
    run: str = ""
    spent: tuple[Amount, ...] = ()
    step: str = ""
    surface: str = ""
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    ttft_us: int | None = None
    workflow: str = ""
    zone: str = ""


class Denial(Record, tag_field="kind", tag="denied"):
    code: str
    key: str
    policy: str
    project: str
    request: str
    secret: str
    source: str
    times: int


class Closed(Record, tag_field="kind", tag="closed"):
    pass


AnyRecord = Opened | Intent | Outcome | Denial | Closed
_DECODER: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def read_record(line: bytes) -> AnyRecord:
    """Read a line without its line feed. Raises ValueError (msgspec's errors are of its kind)."""
    return _DECODER.decode(line)


class Chain:
    """The place after the last line: its number, and the digest that the next line names."""

    __slots__ = ("next_seq", "prev")

    def __init__(self, next_seq: int = 0, prev: str = FIRST_PREV) -> None:
        self.next_seq = next_seq
        self.prev = prev

    def add(self, record: AnyRecord) -> bytes:
        """Return the line of the record, at its place in the chain."""
        record.seq, record.prev, record.v = self.next_seq, self.prev, 1
        line = _ENCODER.encode(record)
        self.next_seq += 1
        self.prev = sha256(line).hexdigest()
        return line

    def follow(self, line: bytes, record: AnyRecord) -> None:
        """Go on after a line that was read. Raises ValueError unless it is the next one."""
        if (record.seq, record.prev) != (self.next_seq, self.prev):
            raise ValueError(f"line {record.seq} does not follow line {self.next_seq - 1}")
        self.next_seq += 1
        self.prev = sha256(line).hexdigest()

    def copy(self) -> "Chain":
        return Chain(self.next_seq, self.prev)
