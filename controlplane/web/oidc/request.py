"""A request as Authlib sees it, parsed strictly: no parameter twice, one way of proving who asks, a bounded body."""

import re
from collections import defaultdict
from collections.abc import Awaitable
from typing import TypeVar
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from sqlalchemy.util import await_only
from starlette.requests import Request

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.oauth.types import Granted
from controlplane.kit.tx import Tx
from controlplane.web.limits import source_of
from controlplane.web.oidc.answer import ProtocolRefused
from controlplane.web.peer import Peer

LONGEST_BODY = 64 * 1024
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 50
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Got = TypeVar("Got")


class Payload(OAuth2Payload):
    """Parameters that are each there once."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._data = dict(pairs)

    @property
    def data(self) -> dict[str, str]:
        return self._data

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return defaultdict(list, {name: [value] for name, value in self._data.items()})


class OidcRequest(OAuth2Request):
    """One request of the protocol, with the transaction that answers it and the certificate that was shown."""

    def __init__(self, tx: Tx, http: Request, pairs: list[tuple[str, str]]) -> None:
        # Authlib asks for https; which listener may speak plainly (loopback alone) is decided in the settings
        super().__init__(http.method, f"https://site{http.scope['path']}", headers=_headers(http))
        self.tx = tx
        self.payload = Payload(pairs)
        self.peer = peer_of(http)
        self.source = source_of(http.scope)
        self.keeps_changes = False
        self.bought: Granted | None = None

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data

    @property
    def args(self) -> dict[str, str]:
        return self.payload.data

    def newcomer(self, client_id: str) -> Actor:
        """The client as an actor: known by its proof, and with no role of a person."""
        return Actor(client_id, Role.NEWCOMER, method="client", source=self.source)


def wait(verb: Awaitable[Got]) -> Got:
    """Wait for a verb from inside Authlib, which is not asynchronous: it runs in a greenlet of this same loop."""
    result: Got = await_only(verb)
    return result


async def read_form(http: Request) -> list[tuple[str, str]]:
    """Return the body's fields. Raises ProtocolRefused for all but one well-formed, small form."""
    kind = http.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != FORM:
        raise ProtocolRefused("invalid_request", f"the content type must be {FORM}")
    if http.scope["query_string"]:
        raise ProtocolRefused("invalid_request", "parameters belong in the body, not in the address")
    return read_pairs((await _read_body(http)).decode("ascii", errors="replace"))


def read_pairs(encoded: str) -> list[tuple[str, str]]:
    """Parse parameters; each may be there once, and a value holds no control signs (RFC 6749, 3.1)."""
    if len(encoded) > LONGEST_BODY:
        raise ProtocolRefused("invalid_request", "the request is too long", status=413)
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise ProtocolRefused("invalid_request", "the parameters are not well formed") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise ProtocolRefused("invalid_request", "a parameter is there twice")
    if any(_CONTROL.search(part) for pair in pairs for part in pair):
        raise ProtocolRefused("invalid_request", "a parameter holds a control sign")
    return [(name, value) for name, value in pairs if value]  # an empty one counts as left out


def refuse_two_proofs(http: Request, fields: dict[str, str]) -> None:
    """Raise ProtocolRefused when a client proves itself in more than one way (RFC 6749, 2.3)."""
    headers = http.headers.getlist("authorization")
    ways = len(headers) + ("client_secret" in fields) + ("client_assertion" in fields)
    if ways > 1:
        raise ProtocolRefused("invalid_request", "more than one credential in one request")
    if headers and fields.get("client_id", "") not in {"", _basic_user(headers[0])}:
        raise ProtocolRefused("invalid_request", "two clients are named in one request")


def peer_of(http: Request) -> Peer | None:
    """Return the certificate's identity, if one of this site was shown."""
    peer = http.scope.get("extensions", {}).get("redoubt.peer", {}).get("peer")
    return peer if isinstance(peer, Peer) and peer.site == http.app.state.site else None


def _basic_user(header: str) -> str | None:
    try:
        user: str | None = extract_basic_authorization({"Authorization": header})[0]
    except ValueError:
        raise ProtocolRefused("invalid_request", "the Authorization header is not well formed") from None
    return user


async def _read_body(http: Request) -> bytes:
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size > LONGEST_BODY:
            raise ProtocolRefused("invalid_request", "the request is too long", status=413)
        parts.append(part)
    return b"".join(parts)


def _headers(http: Request) -> dict[str, str]:
    authorization = http.headers.get("authorization")
    return {} if authorization is None else {"Authorization": authorization}
