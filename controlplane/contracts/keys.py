"""Inference keys, as the admin API speaks of them."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from controlplane.contracts.admin import Name
from controlplane.contracts.levels import Classification
from controlplane.contracts.policy import Country
from controlplane.contracts.snapshot import Priority
from controlplane.contracts.strict import Answer, Strict

Purpose = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$", description="lower-case letters, digits, . and -")
]


class CreateKey(Strict):
    """No endpoints or zones means all of them, no sources any address; `classification` is the highest it may carry.

    `project` "" is the maker's own, for staff the site itself. `jurisdictions` are where its data may be (ISO 3166),
    none leaves that to the zones. No request of the key is served before `priority`.
    """

    name: str = Field(min_length=1, max_length=120)
    project: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{0,62})?$")] = ""
    endpoints: tuple[Name, ...] = Field(default=(), max_length=100)
    zones: tuple[Name, ...] = Field(default=(), max_length=100)
    purposes: tuple[Purpose, ...] = Field(default=("general",), min_length=1, max_length=20)
    classification: Classification = "internal"
    sources: tuple[Annotated[str, Field(max_length=49)], ...] = Field(default=(), max_length=50)
    jurisdictions: tuple[Country, ...] = Field(default=(), max_length=50)
    priority: Priority = "interactive"
    days: int = Field(default=90, ge=1, le=365)


class RotateKey(Strict):
    """`days` null: the new secret ends when the old one would. `old_ends_at` null: the old one goes on as it was."""

    days: int | None = Field(default=None, ge=1, le=365)
    old_ends_at: AwareDatetime | None = None


class KeySecret(Answer):
    """`last_used_at` is coarse: it moves at most once a minute."""

    id: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    ended_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class Key(Answer):
    """`expires_at` is when the last of its secrets ends."""

    id: str
    name: str
    project: str
    endpoints: tuple[str, ...]
    zones: tuple[str, ...]
    purposes: tuple[str, ...]
    classification: Classification
    sources: tuple[str, ...]
    jurisdictions: tuple[str, ...]
    priority: Priority
    created_at: AwareDatetime
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    secrets: tuple[KeySecret, ...]


class NewSecret(Answer):
    """`secret` is shown this once."""

    key: Key
    secret_id: str
    secret: str
