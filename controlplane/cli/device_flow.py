"""Signing in without typing a secret here: somebody approves it in a browser, or at a signed-in command line."""

import platform
import time
from collections.abc import Callable
from datetime import timedelta

from controlplane.cli.screen import note
from controlplane.client.admin import Link
from controlplane.client.oauth import WAITING, ProtocolClient
from controlplane.contracts import oauth
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Unauthenticated

SLOWER_S = 5  # RFC 8628, 3.5
Sleep = Callable[[float], None]


def sign_in_by_device(link: Link, *, sleep: Sleep = time.sleep) -> oauth.TokenAnswer:
    """Show a code, and wait for its approval at the pace that the site sets. Ctrl-C ends the waiting."""
    protocol = ProtocolClient(link)
    try:
        started = protocol.begin_device(platform.node())
        note(f"Open {started.verification_uri} and type the code  {started.user_code}")
        note(f"or at a command line that is signed in:  redoubt device approve {started.user_code}")
        note("(with a password instead: redoubt sign-in --name NAME)")
        return _poll(protocol, started, sleep)
    finally:
        protocol.close()


def _poll(protocol: ProtocolClient, started: oauth.DeviceStarted, sleep: Sleep) -> oauth.TokenAnswer:
    interval_s, clock = started.interval, SystemClock()
    until = clock.monotonic() + timedelta(seconds=started.expires_in).total_seconds()
    while clock.monotonic() < until:
        sleep(interval_s)
        try:
            return protocol.poll_device(started.device_code)
        except Unauthenticated as error:
            if error.code not in WAITING:
                raise
            interval_s += SLOWER_S if error.code == "slow_down" else 0
    raise Unauthenticated("nobody approved it in time", remedy="start again: redoubt sign-in", code="expired_token")
