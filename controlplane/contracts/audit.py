"""The audit log as it is asked for: events, entries, checkpoints, proofs, witnesses."""

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict


class FullEvent(Answer):
    """`entry` is the log's own bytes; `personal` what it says of a person: "" nothing, "(erased)" no longer."""

    event_id: str
    leaf_index: int | None
    entry: str
    personal: str


class Entry(Answer):
    """One leaf. `body` is None when it was purged; its hash (64 hex digits) stays."""

    index: int
    hash: str
    body: str | None


class Checkpoint(Answer):
    """A signed state of the log. `note` is a C2SP signed note, the witnesses' cosignatures included."""

    size: int
    root: str
    note: str
    signer: str
    made_at: AwareDatetime


class Consistency(Answer):
    """That the tree of `first` leaves is the beginning of that of `second` (RFC 6962, 2.1.2); hashes in base64."""

    first: int
    second: int
    hashes: tuple[str, ...]


class Proof(Answer):
    """A C2SP tlog-proof, as it is kept in a file."""

    event_id: str
    proof: str


class Witness(Answer):
    """What a witness signed last, and how many events have come since."""

    witness: str
    size: int
    behind: int
    verifier_key: str
    at: AwareDatetime


class PlaceHold(Strict):
    reason: str = Field(min_length=1, max_length=400)


class Hold(Answer):
    id: str
    reason: str
    placed_by: str
    placed_at: AwareDatetime


class Release(Strict):
    """End a hold. `approval` is one that two people gave for exactly this."""

    approval: str = Field(min_length=1, max_length=80)


class Purge(Strict):
    """Drop the bodies of events that are older than this many months. `approval` is one that two people gave."""

    months: int = Field(default=13, ge=6, le=1200)
    approval: str = Field(min_length=1, max_length=80)


class Purged(Answer):
    before_leaf: int
    bodies: int


class Erase(Strict):
    """Delete the keys of a person's side records; the log itself and its proofs stay."""

    subject: str = Field(min_length=1, max_length=120)
    approval: str = Field(min_length=1, max_length=80)


class Erased(Answer):
    subject: str
    records: int
