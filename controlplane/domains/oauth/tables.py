from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class OauthClient(Table):
    """A registered client. Only the SHA-256 of a secret is here, and only public keys."""

    __tablename__ = "oauth_clients"
    __table_args__ = (
        CheckConstraint("kind in ('native', 'web', 'service')", name="kind"),
        CheckConstraint("(kind = 'service') = (principal_id is not null)", name="service_has_principal"),
        CheckConstraint("kind = 'web' or secret_sha256 is null", name="only_web_has_secret"),
        CheckConstraint("kind <> 'service' or cardinality(redirect_uris) = 0", name="service_redirects_nowhere"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    kind: Mapped[str] = mapped_column(String(12))
    principal_id: Mapped[str | None] = mapped_column(ForeignKey("principals.id"), index=True)
    redirect_uris: Mapped[list[str]] = mapped_column(ARRAY(Text))
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(ARRAY(Text))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    secret_sha256: Mapped[str | None] = mapped_column(String(64))
    public_keys: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    certificate_uri: Mapped[str | None] = mapped_column(String(300), unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class AuthorizationCode(Table):
    """A code between the browser and the token endpoint; `session_id` is what it bought, so that reuse can end it."""

    __tablename__ = "authorization_codes"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(40))
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    redirect_uri: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    nonce: Mapped[str] = mapped_column(String(255))
    code_challenge: Mapped[str] = mapped_column(String(43))
    methods: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    signed_in_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    session_id: Mapped[str | None] = mapped_column(String(40))


class DeviceCode(Table):
    """A sign-in that waits for somebody with a browser or a signed-in command line."""

    __tablename__ = "device_codes"
    __table_args__ = (
        CheckConstraint("(decided_at is null) = (approved is null)", name="decided"),
        CheckConstraint("approved is not true or principal_id is not null", name="approved_by_somebody"),
    )

    id: Mapped[str] = mapped_column(String(40), unique=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_code_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    client_id: Mapped[str] = mapped_column(String(40))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    host: Mapped[str] = mapped_column(String(120))
    source: Mapped[str] = mapped_column(String(64))
    interval_s: Mapped[int] = mapped_column(Integer)
    last_polled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    decided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    approved: Mapped[bool | None] = mapped_column(Boolean)
    principal_id: Mapped[str | None] = mapped_column(ForeignKey("principals.id"), index=True)
    methods: Mapped[list[str]] = mapped_column(ARRAY(String(40)), default=list)
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class WrongUserCodes(Table):
    """How many codes of devices a session has typed that nobody waits under."""

    __tablename__ = "wrong_user_codes"

    session_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    count: Mapped[int] = mapped_column(Integer)
    last_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class SpentAssertion(Table):
    """The `jti` of a client assertion that was accepted; the primary key is what makes it count once."""

    __tablename__ = "spent_assertions"

    client_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    jti_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class SigningKey(Table):
    """The public half of a key; the private half is derived from the file that the api's settings name."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        CheckConstraint("state in ('next', 'current', 'previous', 'retired')", name="state"),
        Index("uq_signing_keys_live", "state", unique=True, postgresql_where=text("state in ('next', 'current')")),
    )

    kid: Mapped[str] = mapped_column(String(40), primary_key=True)
    x: Mapped[str] = mapped_column(String(43))
    state: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    state_since: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Consent(Table):
    """What a person has let a client have, so that they are asked once."""

    __tablename__ = "oauth_consents"

    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("oauth_clients.id"), primary_key=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    given_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
