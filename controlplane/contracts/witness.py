"""How a node witnesses the audit log: it takes a checkpoint only with proof that it goes on from the one it keeps."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

Note = Annotated[str, Field(max_length=20_000)]
RefusalKind = Literal["unreadable", "unknown_key", "wrong_origin", "rollback", "split_view", "inconsistent"]


class Offer(Answer):
    """The newest checkpoint, and the proof from the size that was asked; hashes in base64 (RFC 6962, 2.1.2).

    `log_key` is believed once, when a witness has never seen this log.
    """

    note: str
    log_key: str
    hashes: tuple[str, ...]


class Cosign(Strict):
    """A witness's signature line (C2SP tlog-cosignature) and the key that made it, which the node alone has."""

    size: Annotated[int, Field(ge=1, le=2**62)]
    verifier_key: Annotated[str, Field(max_length=300)]
    line: Annotated[str, Field(max_length=600)]


class Refuse(Strict):
    """Two notes that cannot both be true, or one that is no checkpoint of this log."""

    kind: RefusalKind
    detail: Annotated[str, Field(max_length=400)]
    kept: Note
    offered: Note


class WitnessStanding(Answer):
    """`is_fresh`: it has signed all that was to be signed in the last minutes. `refusal` "" unless it refuses now."""

    node: str
    size: int
    at: AwareDatetime | None
    is_fresh: bool
    refusal: str


class Witnesses(Answer):
    """`fresh` of `declared` nodes are fresh; a majority is `needed`."""

    fresh: int
    declared: int
    needed: int
    nodes: tuple[WitnessStanding, ...]
