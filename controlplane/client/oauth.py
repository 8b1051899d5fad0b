"""The typed client of clients, services, devices and signing keys; and of the protocol itself."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from controlplane.client.admin import AdminClient, Link
from controlplane.contracts import oauth
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Denied, Unauthenticated, Unavailable
from controlplane.kit.ids import new_id
from controlplane.kit.jws import sign_jwt

Shape = TypeVar("Shape", bound=BaseModel)

CLI_CLIENT = "redoubt-cli"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME = timedelta(seconds=60)
WAITING = frozenset({"authorization_pending", "slow_down"})
REMEDIES = {
    "access_denied": "ask whoever was to approve it",
    "expired_token": "start again: redoubt sign-in",
    "slow_down": "too many sign-ins wait for approval from this address: approve one, or try again in ten minutes",
    "invalid_client": "this key or this client does not count: redoubt client show ID",
}


class OauthClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def create_client(self, ask: oauth.CreateClient) -> oauth.NewClient:
        return self.send("POST", ("clients",), ask, oauth.NewClient)

    def list_clients(self) -> Iterator[oauth.Client]:
        return self.list_of("/clients", oauth.Client)

    def get_client(self, client_id: str) -> oauth.Client:
        return self.send("GET", ("clients", client_id), None, oauth.Client)

    def disable_client(self, client_id: str) -> oauth.Client:
        return self.send("DELETE", ("clients", client_id), None, oauth.Client)

    def rotate_client(self, client_id: str, ask: oauth.RotateClient) -> oauth.NewClient:
        return self.send("POST", ("clients", client_id, "rotations"), ask, oauth.NewClient)

    def create_service(self, ask: oauth.CreateService) -> oauth.Client:
        return self.send("POST", ("services",), ask, oauth.Client)

    def look_at_device(self, ask: oauth.LookAtDevice) -> oauth.WaitingDevice:
        return self.send("POST", ("device-requests",), ask, oauth.WaitingDevice)

    def decide_device(self, ask: oauth.DecideDevice) -> oauth.WaitingDevice:
        return self.send("POST", ("device-decisions",), ask, oauth.WaitingDevice)

    def rotate_keys(self, ask: oauth.RotateKeys) -> oauth.SigningKeys:
        return self.send("POST", ("signing-keys", "rotations"), ask, oauth.SigningKeys)


class ProtocolClient:
    """What a device or a service asks of the token endpoint. Failures are RedoubtErrors with the protocol's code."""

    def __init__(self, link: Link, *, timeout_s: float = 30) -> None:
        self._http = httpx.Client(
            base_url=link.url, verify=link.tls if link.tls is not None else True, timeout=timeout_s, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def begin_device(self, host: str) -> oauth.DeviceStarted:
        fields = {"client_id": CLI_CLIENT, "scope": "openid profile api", "device_host": host}
        return self._post("/oauth/device_authorization", fields, oauth.DeviceStarted)

    def poll_device(self, device_code: str) -> oauth.TokenAnswer:
        """Return the tokens; raises Unauthenticated with the code of RFC 8628 while nobody has approved."""
        fields = {"grant_type": DEVICE_GRANT, "device_code": device_code, "client_id": CLI_CLIENT}
        return self._post("/oauth/token", fields, oauth.TokenAnswer)

    def sign_in_service(self, client_id: str, key: Ed25519PrivateKey, kid: str) -> oauth.TokenAnswer:
        """Sign in by a client assertion (RFC 7523), good for a minute and once."""
        now = int(SystemClock().now().timestamp())
        issuer = self._get("/.well-known/openid-configuration", _Issuer).issuer
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": issuer,
            "iat": now,
            "exp": now + int(ASSERTION_LIFETIME.total_seconds()),
            "jti": new_id("jti"),
        }
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": sign_jwt(key, kid, claims),
        }
        return self._post("/oauth/token", fields, oauth.TokenAnswer)

    def _get(self, path: str, shape: type[Shape]) -> Shape:
        return self._read(self._http.build_request("GET", path), shape)

    def _post(self, path: str, fields: dict[str, str], shape: type[Shape]) -> Shape:
        return self._read(self._http.build_request("POST", path, data=fields), shape)

    def _read(self, request: httpx.Request, shape: type[Shape]) -> Shape:
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"no answer from {request.url.host}: {error}", remedy="check the address and the CA"
            ) from None
        if answer.is_success:
            return shape.model_validate_json(answer.content)
        raise _to_error(answer)


class _Issuer(BaseModel):
    """Who the site says it is; an assertion is addressed to that name, by whatever address it is reached."""

    issuer: str


class _Told(BaseModel):
    error: str
    error_description: str = ""


def _to_error(answer: httpx.Response) -> Denied | Unauthenticated | Unavailable:
    try:
        told = _Told.model_validate_json(answer.content)
    except ValidationError:
        return Unavailable(f"{answer.url.host} answered {answer.status_code}", remedy="is this the admin API's port?")
    detail = told.error_description or told.error.replace("_", " ")
    kind = Denied if told.error == "access_denied" else Unauthenticated
    return kind(detail, remedy=REMEDIES.get(told.error, "redoubt sign-in"), code=told.error)
