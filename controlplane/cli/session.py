"""Which site the CLI speaks to. `main` finds out; commands only ask."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from controlplane.client.admin import AdminClient, Link
from controlplane.kit.errors import Unauthenticated
from controlplane.kit.tls import client_context


@dataclass(frozen=True)
class Profile:
    """What `redoubt enrol` keeps, readable by its owner alone. `ca` "" means plain loopback."""

    url: str
    token: str
    ca: str = ""
    gateway_url: str = ""


@dataclass(frozen=True)
class Session:
    """Given to every command: where the profile is kept, and the profile if there is one."""

    path: Path
    profile: Profile | None


def connect(context: typer.Context) -> AdminClient:
    """Return a client of the enrolled site; raises Unauthenticated before enrolment."""
    profile = profile_of(context)
    return AdminClient(to_link(profile))


def profile_of(context: typer.Context) -> Profile:
    session = context.ensure_object(Session) if context.obj is None else context.obj
    if not isinstance(session, Session) or session.profile is None:
        raise Unauthenticated(
            "this machine is not enrolled at a site", remedy="redoubt enrol --url https://… --ca ca.crt --code CODE"
        )
    return session.profile


def to_link(profile: Profile) -> Link:
    tls = client_context(Path(profile.ca)) if profile.ca else None
    return Link(profile.url, profile.token or None, tls)


def save(path: Path, profile: Profile) -> None:
    """Write the profile so that nobody else can read it and no half of it is ever there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
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
