"""The node as a witness of the audit log (C2SP tlog-witness): what it once saw of it can never be unsaid."""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from controlplane.contracts.witness import Cosign, Offer, RefusalKind, Refuse
from controlplane.kit.clock import Clock
from controlplane.kit.crypto import load_signing_key, new_signing_key_pem
from controlplane.kit.durable_files import replace_file
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.merkle import is_consistent
from controlplane.kit.note import (
    WITNESS_KEY,
    BadNote,
    Checkpoint,
    VerifierKey,
    cosign,
    is_signed,
    parse_checkpoint,
    parse_key,
    parse_note,
    verifier_key,
)

log = structlog.get_logger()

_ASK = "/api/v1/agent/checkpoint"
_SIGNED = "/api/v1/agent/cosignatures"
_REFUSED = "/api/v1/agent/witness-refusals"
_NOTHING_YET = 404


class WitnessRefused(Refused):
    """A checkpoint that this node will not vouch for."""

    def __init__(self, kind: RefusalKind, detail: str) -> None:
        super().__init__(detail, remedy="keep both notes; redoubt incident list", code=kind)
        self.why: RefusalKind = kind


@dataclass(frozen=True)
class Memory:
    """What this node vouched for last: the log's key, and a note of it."""

    log_key: VerifierKey
    note: str

    @property
    def checkpoint(self) -> Checkpoint:
        return parse_checkpoint(parse_note(self.note).body)


def judge(memory: Memory | None, offered: str, log_key: VerifierKey, hashes: Sequence[bytes]) -> Checkpoint:
    """Return the checkpoint that the note holds if it goes on from what is remembered. Raises WitnessRefused."""
    try:
        note = parse_note(offered)
        found = parse_checkpoint(note.body)
    except BadNote as error:
        raise WitnessRefused("unreadable", f"the log offers no checkpoint: {error}") from None
    key = memory.log_key if memory is not None else log_key
    if found.origin != key.name:
        raise WitnessRefused("wrong_origin", f"the checkpoint is of {found.origin}, not of {key.name}")
    if not any(is_signed(note.body, signature, key) for signature in note.signatures):
        raise WitnessRefused("unknown_key", f"the checkpoint of {found.size} leaves is not signed by the log's key")
    if memory is not None:
        _check_growth(memory.checkpoint, found, hashes)
    return found


def _check_growth(kept: Checkpoint, found: Checkpoint, hashes: Sequence[bytes]) -> None:
    if found.size < kept.size:
        raise WitnessRefused("rollback", f"the log has {found.size} leaves and had {kept.size}")
    if found.size == kept.size and found.root != kept.root:
        raise WitnessRefused("split_view", f"the log shows two roots for {kept.size} leaves")
    if found.size > kept.size > 0 and not is_consistent(kept.size, kept.root, found.size, found.root, hashes):
        raise WitnessRefused("inconsistent", f"{found.size} leaves do not go on from the {kept.size} that were there")


class WitnessFolder:
    """The node's own disk: its key, and the last note that it vouched for, replaced as one."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "witness.key"
        self._memory = folder / "checkpoint"

    def load_key(self) -> Ed25519PrivateKey:
        """Return this node's key; the first call makes it. It never leaves the node."""
        if not self._key.exists():
            replace_file(self._key, new_signing_key_pem())
        return load_signing_key(self._key)

    def load(self) -> Memory | None:
        """Return what is remembered, None before the first checkpoint. Raises BadNote for a file that was changed."""
        try:
            key, _, note = self._memory.read_text().partition("\n")
        except FileNotFoundError:
            return None
        memory = Memory(parse_key(key), note)
        if not any(is_signed(parse_note(note).body, one, memory.log_key) for one in parse_note(note).signatures):
            raise BadNote("the remembered checkpoint is not signed by the log's key")
        return memory

    def save(self, memory: Memory) -> None:
        replace_file(self._memory, f"{memory.log_key}\n{memory.note}".encode())


class Witness:
    """Asks for the newest checkpoint, judges it, remembers it, and only then signs it."""

    def __init__(self, client: httpx.AsyncClient, folder: WitnessFolder, name: str, clock: Clock) -> None:
        self._client = client
        self._folder = folder
        self._name = name
        self._clock = clock

    async def step(self) -> None:
        """Witness once. Raises Unavailable without an api; a refusal is told, logged and raised."""
        memory = self._folder.load()
        offer = await self._ask(memory.checkpoint.size if memory else 0)
        if offer is None:
            return
        try:
            log_key = parse_key(offer.log_key)
            found = judge(memory, offer.note, log_key, [b64decode(value) for value in offer.hashes])
        except WitnessRefused as refusal:
            log.error("witness.refused", kind=refusal.why, detail=refusal.detail)  # noqa: TRY400 - the fact is the line
            await self._refuse(refusal, memory, offer)
            raise
        except ValueError as error:
            raise Unavailable(f"the api offered no checkpoint: {error}", remedy="look at the api's log") from None
        body = parse_note(offer.note).body
        if memory is None or memory.checkpoint.size < found.size:
            self._folder.save(Memory(memory.log_key if memory else log_key, offer.note))
        await self._sign(body, found.size)

    async def _ask(self, after: int) -> Offer | None:
        answer = await self._send("GET", f"{_ASK}?after={after}", None)
        if answer.status_code == _NOTHING_YET:
            return None
        _expect(answer, 200)
        try:
            return Offer.model_validate_json(answer.content)
        except ValidationError:
            raise Unavailable("the answer is no offer of a checkpoint", remedy="use one version everywhere") from None

    async def _sign(self, body: str, size: int) -> None:
        key = self._folder.load_key()
        line = str(cosign(body, self._name, key, int(self._clock.now().timestamp())))
        ask = Cosign(size=size, verifier_key=str(verifier_key(self._name, key, WITNESS_KEY)), line=line)
        _expect(await self._send("POST", _SIGNED, ask.model_dump_json()), 204)

    async def _refuse(self, refusal: WitnessRefused, memory: Memory | None, offer: Offer) -> None:
        kept = memory.note if memory else ""
        ask = Refuse(kind=refusal.why, detail=refusal.detail[:400], kept=kept[:20_000], offered=offer.note[:20_000])
        _expect(await self._send("POST", _REFUSED, ask.model_dump_json()), 204)

    async def _send(self, method: str, path: str, body: str | None) -> httpx.Response:
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            return await self._client.request(method, path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(
                f"no answer from {self._client.base_url}: {type(error).__name__} {error}",
                remedy="see that the api runs and that this node may reach it",
            ) from error


def _expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        detail = f"{answer.url.path} answered {answer.status_code}: {answer.text[:200]}"
        raise Unavailable(detail, remedy="see the log of the api")
