"""The two administrators of a practice site. They are made up, and the lab keeps what they would remember."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any  # JSON of our own commands has no narrower type

from lab.errors import LabError

from controlplane.kit.totp import seconds_to_next, totp_at

ADMINISTRATOR, SECOND = "practice", "practice-security"
Cli = Callable[..., str]


class People:
    """Who acts at a practice site: a profile each for the CLI, and a file each with what a person would remember."""

    def __init__(self, home: Path, site: tuple[str, str, Path], cli: Cli) -> None:
        """Remember where things are; `cli` runs the CLI with a profile."""
        self._home = home
        self._api, self._gateway, self._ca = site
        self._cli = cli

    def profile(self, name: str) -> Path:
        """Return the file with the session of one of the two."""
        return self._home / f"{name}.profile.json"

    def enrol(self, console_code: Callable[[], str]) -> None:
        """Enrol whoever of the two is not there yet; a code for each is made at the console."""
        for name in (ADMINISTRATOR, SECOND):
            if self._kept(name).exists():
                continue
            password = self._home / f"{name}.password"
            _write(password, secrets.token_urlsafe(24))
            where = ("--url", self._api, "--ca", self._ca, "--gateway-url", self._gateway)
            who = ("--name", name, "--password-file", password, "--code", console_code())
            _write(self._kept(name), self._cli(self.profile(name), "enrol", *where, *who, "--json"))

    def knows(self, name: str) -> Any:
        """Return what one of the two was shown at the enrolment."""
        return json.loads(self._kept(name).read_text())

    def stay_signed_in(self, name: str) -> None:
        """Sign in again where the session is over, or too near its end for a step that takes a while."""
        profile = json.loads(self.profile(name).read_text())
        idle_until = datetime.fromisoformat(profile["expires_at"]) + timedelta(minutes=15)
        if profile["token"] and profile["refresh"] and datetime.now(UTC) < idle_until:
            return
        self.sign_in(name)

    def sign_in(self, name: str) -> None:
        """Sign in; a code counts once, so the next half minute is waited for if this one's was shown already."""
        try:
            self._sign_in(name)
        except (LabError, subprocess.CalledProcessError):
            time.sleep(seconds_to_next(datetime.now(UTC)) + 0.5)
            self._sign_in(name)

    def step_up(self, name: str) -> None:
        """Show the second factor again, in the half minute that has a code which was not shown yet."""
        time.sleep(seconds_to_next(datetime.now(UTC)) + 0.5)
        self._cli(self.profile(name), "step-up", "--otp", self._otp(name))

    def _sign_in(self, name: str) -> None:
        password = self._home / f"{name}.password"
        where = ("--url", self._api, "--ca", self._ca, "--gateway-url", self._gateway)
        who = ("--name", name, "--password-file", password, "--otp", self._otp(name))
        self._cli(self.profile(name), "sign-in", *where, *who)

    def _otp(self, name: str) -> str:
        return totp_at(self.knows(name)["otp_secret"], datetime.now(UTC))

    def _kept(self, name: str) -> Path:
        return self._home / f"{name}.json"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
