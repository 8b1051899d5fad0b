"""A browser on its way between a client and this site: it keeps the cookie, follows us, and stops at the client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.types import Carrier
from controlplane.web.cookies import HOST_ONLY
from tests.support.browser import Seen
from tests.support.control_plane import ControlPlane
from tests.support.oauth import ISSUER, Party, challenge_of

VERIFIER = "v" * 43


@dataclass
class Visitor:
    """`page` is what is seen here last; `arrived` the client's address, once the browser was sent back there."""

    plane: ControlPlane
    client: httpx.AsyncClient
    page: httpx.Response = field(default_factory=lambda: httpx.Response(204))
    arrived: str = ""
    origin: str = ISSUER

    @property
    def told(self) -> dict[str, str]:
        """What the client was told in its address."""
        assert self.arrived, self.page.text
        return {name: values[0] for name, values in parse_qs(urlsplit(self.arrived).query).items()}

    @property
    def path(self) -> str:
        return self.page.request.url.path

    async def sign_in(self, access: str, *, methods: tuple[str, ...] = ("password", "totp")) -> None:
        """Begin a browser's session for whom an access token belongs to."""
        async with self.plane.database.transaction() as tx:
            actor = await sessions.authenticate(tx, access, source="browser")
            made = await sessions.start_session(
                tx,
                NEWCOMER,
                principal_id=actor.id,
                methods=methods,
                client="browser",
                source="10.0.0.1",
                strong=len(methods) > 1,
                carrier=Carrier.COOKIE,
            )
        self.client.cookies.set(HOST_ONLY, made.cookie)

    async def ask(self, party: Party, **changed: str) -> "Visitor":
        """Come from a client with an authorization request; a changed parameter "" is left out."""
        wanted = {
            "response_type": "code",
            "client_id": party.client.id,
            "redirect_uri": party.client.redirect_uris[0],
            "scope": "openid",
            "state": "st-1",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changed,
        }
        party.verifier = VERIFIER
        return await self.go(f"/oauth/authorize?{urlencode({k: v for k, v in wanted.items() if v})}")

    async def go(self, url: str) -> "Visitor":
        self.arrived = ""
        return await self._follow(await self.client.get(url))

    async def submit(self, action: str, *, origin: str = "", **fields: str) -> "Visitor":
        form = next(form for form in Seen(self.page.text).forms if form.action.partition("?")[0] == action)
        answer = await self.client.post(
            form.action, data=form.fields | fields, headers={"Origin": origin or self.origin}
        )
        return await self._follow(answer)

    async def allow(self) -> "Visitor":
        return await self.submit("/oauth/consent", decision="allow")

    async def _follow(self, answer: httpx.Response) -> "Visitor":
        for _ in range(10):
            where = answer.headers.get("location") or answer.headers.get("refresh", "").partition("url=")[2]
            if not where:
                self.page = answer
                return self
            if urlsplit(where).netloc not in {"", urlsplit(self.origin).netloc}:
                self.arrived = where
                return self
            answer = await self.client.get(where)
        raise AssertionError(f"sent around in circles: {answer.request.url}")


@asynccontextmanager
async def visitor(plane: ControlPlane) -> AsyncIterator[Visitor]:
    transport = httpx.ASGITransport(plane.admin_app, raise_app_exceptions=False, client=("10.0.0.1", 50000))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER, trust_env=False) as client:
        yield Visitor(plane, client)
