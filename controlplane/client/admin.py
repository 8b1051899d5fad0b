"""The typed client of the admin API."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from controlplane.contracts import admin, identity, keys, witness
from controlplane.kit import errors
from controlplane.kit.ids import new_id

Shape = TypeVar("Shape", bound=BaseModel)
STEP_UPS = "/step-ups"

KINDS: dict[str, type[errors.RedoubtError]] = {
    kind.kind.replace("_", " "): kind
    for kind in (
        errors.BadInput,
        errors.Unauthenticated,
        errors.Denied,
        errors.NotFound,
        errors.Conflict,
        errors.Refused,
        errors.Unavailable,
    )
}


class Keeper(Protocol):
    """Who keeps a session's tokens between commands, and speaks with the person in front of them."""

    def fresh_token(self) -> str:
        """Return an access token that counts for a while, renewed if need be."""
        ...

    def renewed_token(self, stale: str) -> str:
        """Return the successor of a token that was refused; raises Unauthenticated when the session is over."""
        ...

    def second_factor(self) -> identity.StepUp | None:
        """Ask for a second factor; None where nobody can be asked."""
        ...


@dataclass(frozen=True)
class Link:
    """Where the api is and who asks. `tls` is None on the box's loopback."""

    url: str
    token: str | None
    tls: ssl.SSLContext | None
    keeper: Keeper | None = None


class AdminClient:
    """One method a verb. Every failure is a RedoubtError with the server's own remedy."""

    def __init__(self, link: Link, *, timeout_s: float = 30) -> None:
        self._token, self._keeper = link.token, link.keeper
        verify: ssl.SSLContext | bool = link.tls if link.tls is not None else True
        self._http = httpx.Client(base_url=f"{link.url}/api/v1", verify=verify, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def create_key(self, ask: keys.CreateKey) -> keys.NewSecret:
        return self._post("/keys", ask, keys.NewSecret)

    def list_keys(self) -> Iterator[keys.Key]:
        return self._list("/keys", keys.Key)

    def get_key(self, key_id: str) -> keys.Key:
        return self._get(f"/keys/{_word(key_id)}", keys.Key)

    def rotate_key(self, key_id: str, ask: keys.RotateKey) -> keys.NewSecret:
        return self._post(f"/keys/{_word(key_id)}/secrets", ask, keys.NewSecret)

    def revoke_key(self, key_id: str) -> keys.Key:
        return _read(keys.Key, self._send("DELETE", f"/keys/{_word(key_id)}"))

    def revoke_secret(self, key_id: str, secret_id: str) -> keys.Key:
        return _read(keys.Key, self._send("DELETE", f"/keys/{_word(key_id)}/secrets/{_word(secret_id)}"))

    def get_witnesses(self) -> witness.Witnesses:
        return self._get("/witnesses", witness.Witnesses)

    def declare_nodes(self, ask: admin.DeclareNodes) -> admin.Declared:
        return _read(admin.Declared, self._send("PUT", "/nodes", ask))

    def list_nodes(self) -> Iterator[admin.Node]:
        return self._list("/nodes", admin.Node)

    def get_node(self, name: str) -> admin.Node:
        return self._get(f"/nodes/{_word(name)}", admin.Node)

    def list_gpus(self) -> Iterator[admin.Gpu]:
        return self._list("/gpus", admin.Gpu)

    def get_gpu(self, uuid: str) -> admin.GpuDetail:
        return self._get(f"/gpus/{_word(uuid)}", admin.GpuDetail)

    def cordon_gpu(self, uuid: str, ask: admin.CordonGpu) -> admin.GpuDetail:
        return _read(admin.GpuDetail, self._send("PUT", f"/gpus/{_word(uuid)}/cordon", ask))

    def uncordon_gpu(self, uuid: str) -> admin.GpuDetail:
        return _read(admin.GpuDetail, self._send("DELETE", f"/gpus/{_word(uuid)}/cordon"))

    def register_model(self, ask: admin.ModelManifest) -> admin.Model:
        return self._post("/models", ask, admin.Model)

    def list_models(self) -> Iterator[admin.Model]:
        return self._list("/models", admin.Model)

    def create_endpoint(self, ask: admin.CreateEndpoint) -> admin.Endpoint:
        return self._post("/endpoints", ask, admin.Endpoint)

    def list_endpoints(self) -> Iterator[admin.Endpoint]:
        return self._list("/endpoints", admin.Endpoint)

    def get_endpoint(self, name: str) -> admin.Endpoint:
        return self._get(f"/endpoints/{_word(name)}", admin.Endpoint)

    def revise_endpoint(self, name: str, ask: admin.ReviseEndpoint) -> admin.Endpoint:
        return _read(admin.Endpoint, self._send("PATCH", f"/endpoints/{_word(name)}", ask))

    def delete_endpoint(self, name: str) -> None:
        self._send("DELETE", f"/endpoints/{_word(name)}")

    def list_incidents(self, *, every: bool) -> Iterator[admin.Incident]:
        return self._list("/incidents", admin.Incident, state="all" if every else "open")

    def get_incident(self, incident_id: str) -> admin.Incident:
        return self._get(f"/incidents/{_word(incident_id)}", admin.Incident)

    def send(self, method: str, words: tuple[str, ...], ask: BaseModel | None, shape: type[Shape]) -> Shape:
        """Ask one thing of a path given word by word. For clients of other topics."""
        path = self.path_of(words)
        headers = {"Idempotency-Key": new_id("call")} if method == "POST" else None
        return _read(shape, self._send(method, path, ask, headers))

    def path_of(self, words: tuple[str, ...]) -> str:
        return "".join(f"/{_word(word)}" for word in words)

    def read(self, path: str, shape: type[Shape], **asked: str) -> Shape:
        """Ask one thing with a query. For clients of other topics."""
        return _read(shape, self._send("GET", f"{path}?{httpx.QueryParams(asked)}"))

    def list_of(self, path: str, shape: type[Shape], **asked: str) -> Iterator[Shape]:
        """Give every row of a list. For clients of other topics."""
        return self._list(path, shape, **asked)

    def _get(self, path: str, shape: type[Shape]) -> Shape:
        return _read(shape, self._send("GET", path))

    def _post(self, path: str, ask: BaseModel, shape: type[Shape]) -> Shape:
        return _read(shape, self._send("POST", path, ask, {"Idempotency-Key": new_id("call")}))

    def _list(self, path: str, shape: type[Shape], **asked: str) -> Iterator[Shape]:
        """Give every row, page by page as they are asked for."""
        cursor: str | None = ""
        while cursor is not None:
            query = httpx.QueryParams({**asked, **({"cursor": cursor} if cursor else {})})
            answer = self._send("GET", f"{path}?{query}" if query else path)
            page = admin.Rows[shape].model_validate_json(answer)  # type: ignore[valid-type]  # a class, known when called
            yield from page.items
            cursor = page.cursor

    def _send(
        self, method: str, path: str, ask: BaseModel | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        content = ask.model_dump_json().encode() if ask is not None else None
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if content else {})}
        answer = self._answer(method, path, content, sent)
        if not answer.is_success:
            raise _to_error(answer)
        return answer.content

    def _answer(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> httpx.Response:
        """Ask, and once more each when the token ran out and when a second factor is wanted that somebody can show."""
        keeper = self._keeper
        if keeper is None:
            return self._ask(method, path, content, headers, self._token)
        token = keeper.fresh_token()
        answer = self._ask(method, path, content, headers, token)
        if answer.status_code == httpx.codes.UNAUTHORIZED and path != STEP_UPS:
            token = keeper.renewed_token(token)
            answer = self._ask(method, path, content, headers, token)
        if answer.status_code == httpx.codes.FORBIDDEN and _to_error(answer).code == "step_up_required":
            shown = keeper.second_factor()
            if shown is not None:
                self.step_up(shown)
                answer = self._ask(method, path, content, headers, keeper.fresh_token())
        return answer

    def step_up(self, ask: identity.StepUp) -> identity.SteppedUp:
        """Show a second factor again; dangerous verbs go for five minutes."""
        return _read(identity.SteppedUp, self._send("POST", STEP_UPS, ask))

    def _ask(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], token: str | None
    ) -> httpx.Response:
        credential = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return self._http.request(method, path, content=content, headers={**headers, **credential})
        except httpx.HTTPError as error:
            raise errors.Unavailable(
                f"no answer from {self._http.base_url.host}:{self._http.base_url.port}: {error}",
                remedy="check the address, the CA file, and that redoubt-api runs on the control-plane node",
            ) from None


def _word(name: str) -> str:
    """Quote one segment of a path, so that no name reaches another resource."""
    if not name or name in (".", ".."):
        raise errors.BadInput(f"{name!r} is no name", remedy="list the names first")
    return quote(name, safe="")


def _read(shape: type[Shape], content: bytes) -> Shape:
    """Parse an answer; what it held is not shown, because it may be a secret."""
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        raise errors.Unavailable(
            f"the api answered something else than {shape.__name__} ({error.error_count()} fields)",
            remedy="use the redoubt of the site's own version",
        ) from None


def _to_error(answer: httpx.Response) -> errors.RedoubtError:
    try:
        problem = admin.Problem.model_validate_json(answer.content)
    except ValidationError:
        return errors.Unavailable(
            f"{answer.url.host} answered {answer.status_code}", remedy="is this the admin API's port?"
        )
    kind = KINDS.get(problem.title, errors.RedoubtError)
    return kind(problem.detail, remedy=problem.remedy, code=problem.code, reasons=problem.reasons)
