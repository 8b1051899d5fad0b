"""A browser as far as our pages need one: it keeps cookies, submits forms with an Origin, follows redirects."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from tests.support.authenticator import Authenticator
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Seen(HTMLParser):
    """Forms, passkey blocks and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.passkeys: list[dict[str, str]] = []
        self.words: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given["action"]))
        if tag == "input" and self.forms and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        if "data-passkey" in given:
            self.passkeys.append(given)
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


@dataclass
class Browser:
    client: httpx.AsyncClient
    answer: httpx.Response = field(default_factory=lambda: httpx.Response(204))

    @property
    def seen(self) -> Seen:
        return Seen(self.answer.text)

    @property
    def text(self) -> str:
        return " ".join(self.seen.words)

    @property
    def path(self) -> str:
        return self.answer.request.url.path

    async def open(self, path: str) -> httpx.Response:
        self.answer = await self.client.get(path, follow_redirects=True)
        return self.answer

    async def submit(self, action: str, **fields: str) -> httpx.Response:
        """Fill in and send the form of this page whose action begins so."""
        form = next(form for form in self.seen.forms if form.action.partition("?")[0] == action)
        self.answer = await self.client.post(
            form.action, data=form.fields | fields, headers={"Origin": ORIGIN}, follow_redirects=True
        )
        return self.answer

    async def touch(self, device: Authenticator, **more: str) -> httpx.Response:
        """Press the passkey button of this page, and follow where the script would go."""
        block = self.seen.passkeys[0]
        options = await self.client.post(block["data-options"], headers={"Origin": ORIGIN})
        if not options.is_success:
            return options
        made = device.create(options.text) if block["data-passkey"] == "create" else device.get(options.text)
        sent = {"answer": json.loads(made), **more}
        answer = await self.client.post(block["data-answer"], json=sent, headers={"Origin": ORIGIN})
        if answer.is_success:
            await self.open(answer.json()["next"])
        return answer


@asynccontextmanager
async def open_browser(plane: ControlPlane, *, source: str = "10.0.0.1") -> AsyncIterator[Browser]:
    transport = httpx.ASGITransport(plane.admin_app, raise_app_exceptions=False, client=(source, 50000))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, trust_env=False) as client:
        yield Browser(client)
