"""Programs that are not ours, unmodified, over TLS: they know the standards and nothing of this site."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any  # neither library has types

import httpx
import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from requests_oauthlib import OAuth2Session

from controlplane.domains.audit.types import Role
from tests.support.control_plane import ControlPlane
from tests.support.live_site import LiveSite, live_site
from tests.support.oauth import CALLBACK, make_keys, web_party
from tests.support.visitor import Visitor


@pytest.fixture
async def live(plane: ControlPlane, database_url: str, tmp_path: Path) -> AsyncIterator[LiveSite]:
    await make_keys(plane)
    async with live_site(plane, database_url, tmp_path) as made:
        yield made


@pytest.fixture
def closed_after(live: LiveSite) -> Iterator[Callable[[Any], Any]]:
    """Close a session before the site it speaks to."""
    del live
    with ExitStack() as stack:
        yield lambda session: stack.enter_context(closing(session))


async def sent_back(plane: ControlPlane, live: LiveSite, address: str) -> str:
    """Let somebody walk through sign-in and consent; return the address that the browser is sent back to."""
    trust = ssl.create_default_context(cafile=live.ca)
    async with httpx.AsyncClient(base_url=live.url, verify=trust, trust_env=False) as client:
        person = Visitor(plane, client, origin=live.url)
        await person.sign_in(await plane.person(Role.OPERATOR, name="olga"))
        await person.go(address)
        await person.allow()
        return person.arrived


async def test_requests_oauthlib_signs_somebody_in_refreshes_and_asks_who_it_is(
    plane: ControlPlane, live: LiveSite, closed_after: Callable[[Any], Any]
) -> None:
    app = await web_party(plane)
    session = closed_after(
        OAuth2Session(app.client.id, redirect_uri=CALLBACK, scope=["openid", "profile"], pkce="S256")
    )
    session.verify, session.trust_env = str(live.ca), False
    address, _ = session.authorization_url(f"{live.url}/oauth/authorize")
    arrived = await sent_back(plane, live, address)

    token = await asyncio.to_thread(
        session.fetch_token, f"{live.url}/oauth/token", authorization_response=arrived, client_secret=app.secret
    )
    told = (await asyncio.to_thread(session.get, f"{live.url}/oauth/userinfo")).json()
    renewed = await asyncio.to_thread(
        session.refresh_token, f"{live.url}/oauth/token", auth=(app.client.id, app.secret)
    )

    assert told["name"] == "olga"
    assert token["id_token"]
    assert renewed["access_token"] != token["access_token"]


async def test_authlibs_own_client_signs_somebody_in(
    plane: ControlPlane, live: LiveSite, closed_after: Callable[[Any], Any]
) -> None:
    app, verifier = await web_party(plane), "w" * 50
    session = closed_after(
        AuthlibSession(
            app.client.id, app.secret, redirect_uri=CALLBACK, scope="openid profile", code_challenge_method="S256"
        )
    )
    session.verify, session.trust_env = str(live.ca), False
    address, state = session.create_authorization_url(f"{live.url}/oauth/authorize", code_verifier=verifier)
    arrived = await sent_back(plane, live, address)

    token = await asyncio.to_thread(
        session.fetch_token,
        f"{live.url}/oauth/token",
        authorization_response=arrived,
        state=state,
        code_verifier=verifier,
    )
    told = (await asyncio.to_thread(session.get, f"{live.url}/oauth/userinfo")).json()

    assert told["name"] == "olga"
    assert token["scope"] == "openid profile"
