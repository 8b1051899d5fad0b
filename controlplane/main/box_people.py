"""The two administrators of a box. On a site they are people; a box makes up both and keeps what they know."""

import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.cli.session import Profile, save, with_tokens
from controlplane.client.admin import Link
from controlplane.client.identity import IdentityClient
from controlplane.contracts import identity
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Unauthenticated
from controlplane.kit.totp import seconds_to_next, totp_at

ADMINISTRATOR, SECOND = "box-administrator", "box-security"


@dataclass(frozen=True)
class BoxPeople:
    """Where the box keeps its people. `new_code` asks the console for an enrolment code."""

    kept: Path
    url: str
    gateway_url: str
    new_code: Callable[[], str]

    def sign_in(self, profile: Path) -> str:
        """Return the administrator's access token; at the first start both administrators are enrolled before."""
        known = self._known()
        fresh = None
        for name in (ADMINISTRATOR, SECOND):
            if name not in known:
                known[name], tokens = self._enrol(name)
                fresh = tokens if name == ADMINISTRATOR else fresh
                self._keep(known)
        tokens = fresh or self._prove(known[ADMINISTRATOR])
        owner = Profile(self.url, "", gateway_url=self.gateway_url, name=ADMINISTRATOR)
        save(profile, with_tokens(owner, tokens))
        return tokens.access_token

    def _enrol(self, name: str) -> tuple[dict[str, object], identity.Tokens]:
        password = secrets.token_urlsafe(24)
        ask = identity.BeginEnrolment(code=self.new_code(), name=name, password=password)
        with self._client() as client:
            begun = client.begin_enrolment(ask)
            code = totp_at(begun.totp_secret, SystemClock().now())
            done = client.finish_enrolment(identity.FinishEnrolment(ticket=begun.ticket, otp=code))
        kept = {"password": password, "otp_secret": begun.totp_secret, "share": done.share}
        return {**kept, "recovery_codes": list(done.recovery_codes)}, done.tokens

    def _prove(self, person: dict[str, object]) -> identity.Tokens:
        """Sign in; a code counts once, so a box that starts twice in half a minute waits for the next one."""
        secret, password = str(person["otp_secret"]), str(person["password"])
        with self._client() as client:
            try:
                return client.sign_in(_ask(password, secret))
            except Unauthenticated:
                time.sleep(seconds_to_next(SystemClock().now()) + 0.5)
                return client.sign_in(_ask(password, secret))

    def _client(self) -> IdentityClient:
        return IdentityClient(Link(self.url, None, None))

    def _known(self) -> dict[str, dict[str, object]]:
        return json.loads(self.kept.read_text()) if self.kept.exists() else {}

    def _keep(self, known: dict[str, dict[str, object]]) -> None:
        fresh = self.kept.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(known, file, indent=2)
        fresh.replace(self.kept)


def _ask(password: str, secret: str) -> identity.SignIn:
    return identity.SignIn(name=ADMINISTRATOR, password=password, otp=totp_at(secret, SystemClock().now()))
