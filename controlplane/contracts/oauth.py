"""Shapes of clients, services, devices that wait, and signing keys."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.identity import PersonName, Project, RoleName
from controlplane.contracts.strict import Answer, Strict

ClientName = Annotated[str, Field(pattern=r"^[\w.@ -]{1,80}$")]
Address = Annotated[str, Field(max_length=500)]
ScopeName = Literal["openid", "profile", "api", "introspect"]
UserCode = Annotated[str, Field(min_length=4, max_length=40)]


class PublicKey(Strict):
    """The public half of an Ed25519 key, as RFC 8037 writes it. `kid` names it."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    x: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    kid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


class CreateClient(Strict):
    """`web` holds a secret, or proves itself by `public_key`; `native` holds nothing."""

    name: ClientName
    kind: Literal["native", "web"]
    redirect_uris: Annotated[tuple[Address, ...], Field(min_length=1, max_length=10)]
    post_logout_redirect_uris: Annotated[tuple[Address, ...], Field(max_length=10)] = ()
    scopes: tuple[ScopeName, ...] = ("openid", "profile")
    public_key: PublicKey | None = None


class Client(Answer):
    """A registered client; `proof` is the one way in which it proves itself."""

    id: str
    name: str
    kind: str
    proof: str
    scopes: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    principal_id: str | None
    certificate_uri: str | None
    key_ids: tuple[str, ...]
    created_at: AwareDatetime | None
    disabled_at: AwareDatetime | None


class NewClient(Answer):
    """`secret` is shown this once; null for a client that has none."""

    client: Client
    secret: str | None


class RotateClient(Strict):
    """`public_key` for a client with keys; nothing for one with a secret, which the site makes."""

    public_key: PublicKey | None = None


class CreateService(Strict):
    """A service proves itself by a key, or by its certificate of the site CA (its URI name)."""

    name: PersonName
    project: Project = ""
    roles: Annotated[tuple[RoleName, ...], Field(min_length=1, max_length=7)]
    scopes: tuple[ScopeName, ...] = ("api",)
    public_key: PublicKey | None = None
    certificate_uri: Annotated[str, Field(pattern=r"^redoubt://[^\s]{1,280}$")] | None = None


class LookAtDevice(Strict):
    user_code: UserCode


class DecideDevice(Strict):
    user_code: UserCode
    approve: bool


class WaitingDevice(Answer):
    """Who asks to be signed in: look at `source` and `host` before you say yes."""

    id: str
    client: str
    source: str
    host: str
    scopes: tuple[str, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime


class RotateKeys(Strict):
    """In an `emergency` every older key ends at once, and with it every id_token that it signed."""

    emergency: bool = False


class SigningKey(Answer):
    kid: str
    x: str


class SigningKeys(Answer):
    """What /oauth/jwks shows; `current` signs."""

    current: str
    published: tuple[SigningKey, ...]


class DeviceStarted(Answer):
    """RFC 8628, 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int = 5


class TokenAnswer(Answer):
    """RFC 6749, 5.1."""

    access_token: str
    expires_in: int
    refresh_token: str = ""
    scope: str = ""
