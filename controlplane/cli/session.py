"""Which site the CLI speaks to, and as whom. `main` finds out; commands only ask."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import typer

from controlplane.cli.screen import note
from controlplane.client.admin import AdminClient, Link
from controlplane.client.identity import IdentityClient
from controlplane.client.oauth import ProtocolClient
from controlplane.contracts import identity, oauth
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.errors import Unauthenticated
from controlplane.kit.tls import client_context

RENEW_BEFORE = timedelta(seconds=30)
BREAK_GLASS = "break-glass"
BANNER = "BREAK-GLASS SESSION: everything you do is on record, and everybody is told. It ends at {ends} UTC."

AnyClient = TypeVar("AnyClient", bound=AdminClient)


@dataclass(frozen=True)
class Profile:
    """What `redoubt enrol` and `redoubt sign-in` keep, readable by its owner alone. `ca` "" means plain loopback.

    `token` ends at `expires_at`; `refresh` buys the next pair, once. Without it the token is all there is. A service
    has a `key_file` instead, with which it signs in whenever it needs to.
    """

    url: str
    token: str
    ca: str = ""
    gateway_url: str = ""
    name: str = ""
    refresh: str = ""
    expires_at: str = ""
    client: str = "cli"
    ends_at: str = ""
    key_file: str = ""
    key_id: str = ""


@dataclass(frozen=True)
class Session:
    """Given to every command: where the profile is kept, and the profile if there is one."""

    path: Path
    profile: Profile | None


def connect(context: typer.Context) -> AdminClient:
    """Return a client of the site; raises Unauthenticated before enrolment."""
    return connect_as(context, AdminClient)


def connect_as(context: typer.Context, kind: type[AnyClient]) -> AnyClient:
    """Return a client of one topic, whose session renews itself and whose second factor is asked for when needed."""
    profile = profile_of(context)
    if profile.client == BREAK_GLASS:
        note(BANNER.format(ends=profile.ends_at[11:16]))
    link = to_link(profile)
    if profile.refresh or profile.key_file:
        session = session_of(context)
        link = replace(link, keeper=ProfileKeeper(session.path))
    return kind(link)


def session_of(context: typer.Context) -> Session:
    session = context.ensure_object(Session) if context.obj is None else context.obj
    if not isinstance(session, Session):
        raise TypeError("a command was started without its session")
    return session


def profile_of(context: typer.Context) -> Profile:
    session = context.obj
    if not isinstance(session, Session) or session.profile is None:
        raise Unauthenticated(
            "this machine is not enrolled at a site", remedy="redoubt enrol --url https://… --ca ca.crt --code CODE"
        )
    if not (session.profile.token or session.profile.key_file):
        raise Unauthenticated("you are signed out", remedy="redoubt sign-in")
    return session.profile


def to_link(profile: Profile) -> Link:
    tls = client_context(Path(profile.ca)) if profile.ca else None
    return Link(profile.url, profile.token or None, tls)


class ProfileKeeper:
    """Keeps the profile's tokens fresh. Of several commands at once one renews, and the others read what it wrote."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fresh_token(self) -> str:
        """Return the kept token, or its successor when it ends within half a minute."""
        profile = self._kept()
        if not profile.token:
            return self.renewed_token("")
        if profile.expires_at and _time(profile.expires_at) - SystemClock().now() < RENEW_BEFORE:
            return self.renewed_token(profile.token)
        return profile.token

    def renewed_token(self, stale: str) -> str:
        """Return the successor of `stale`, which another command may have fetched already."""
        with _locked(self._path):
            profile = self._kept()
            if profile.token != stale:
                return profile.token
            renewed = _sign_in_service(profile) if profile.key_file else _refresh(profile)
            save(self._path, renewed)
        return renewed.token

    def second_factor(self) -> identity.StepUp | None:
        """Ask the person at the terminal; nobody is asked where there is none."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        note("This wants your second factor again.")
        return to_step_up(typer.prompt("Code of your authenticator, or a recovery code", err=True))

    def _kept(self) -> Profile:
        profile = load(self._path)
        if profile is None or not (profile.refresh or profile.key_file):
            raise Unauthenticated("you are signed out", remedy="redoubt sign-in")
        return profile


def _refresh(profile: Profile) -> Profile:
    with IdentityClient(to_link(replace(profile, token=""))) as client:
        ask = {"refresh_token": profile.refresh, "client": profile.client}
        return with_tokens(profile, client.refresh(identity.Refresh.model_validate(ask)))


def _sign_in_service(profile: Profile) -> Profile:
    """Sign in by the service's own key: there is nobody to ask, and nothing to keep but the key."""
    protocol = ProtocolClient(to_link(profile))
    try:
        key = load_signing_key(Path(profile.key_file))
        return with_answer(profile, protocol.sign_in_service(profile.client, key, profile.key_id))
    except (OSError, TypeError, ValueError) as error:
        raise Unauthenticated(
            f"{profile.key_file} holds no key of this service: {error}",
            remedy="make it a new one: redoubt client rotate-key",
        ) from None
    finally:
        protocol.close()


def with_answer(profile: Profile, made: oauth.TokenAnswer) -> Profile:
    """Return the profile with what the token endpoint gave."""
    ends_at = SystemClock().now() + timedelta(seconds=made.expires_in)
    return replace(profile, token=made.access_token, refresh=made.refresh_token, expires_at=ends_at.isoformat())


def to_step_up(typed: str) -> identity.StepUp:
    """Six digits are an authenticator's; everything else is a recovery code."""
    code = typed.replace(" ", "")
    return identity.StepUp(otp=code) if code.isdecimal() else identity.StepUp(recovery_code=code)


def with_tokens(profile: Profile, made: identity.Tokens) -> Profile:
    return replace(profile, token=made.access_token, refresh=made.refresh_token, expires_at=made.expires_at.isoformat())


def save(path: Path, profile: Profile) -> None:
    """Write the profile so that nobody else can read it and no half of it is ever there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(profile), file, indent=2)
    fresh.replace(path)


def load(path: Path) -> Profile | None:
    """Read a profile; None when there is none."""
    try:
        return Profile(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
