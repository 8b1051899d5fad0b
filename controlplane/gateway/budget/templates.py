"""How many tokens the template of a revision puts around a prompt: a replica is asked once."""

from collections.abc import Callable

import msgspec

from controlplane.gateway.budget.needs import TEMPLATED
from controlplane.gateway.request import Request
from controlplane.gateway.surface.chat import Chat

Count = Callable[[Request, Callable[[int | None], None]], None]

_AGAIN_S = 10.0
_CHAT = Chat()


class Templates:
    """Some put a page of instructions in front where the client sends none; so nothing is taken for granted."""

    def __init__(self, count: Count, now_s: Callable[[], float]) -> None:
        self._count = count
        self._now_s = now_s
        self._known: dict[str, int] = {}
        self._asked_s: dict[str, float] = {}

    def tokens_of(self, request: Request) -> int | None:
        """Return the tokens of a prompt of one letter; None until a replica has said so."""
        revision = request.endpoint.revision_id
        known = self._known.get(revision)
        if known is None and request.surface.name in TEMPLATED:
            self._ask(request, revision)
        return known

    def _ask(self, request: Request, revision: str) -> None:
        now_s = self._now_s()
        if now_s - self._asked_s.get(revision, -_AGAIN_S) < _AGAIN_S:
            return
        self._asked_s[revision] = now_s

        def heard(tokens: int | None) -> None:
            if tokens is not None:
                self._known[revision] = tokens

        name = msgspec.json.encode(request.ask.model)
        body = b'{"model":%b,"messages":[{"role":"user","content":"x"}]}' % name
        self._count(msgspec.structs.replace(request, surface=_CHAT, ask=_CHAT.read(body), body=body), heard)
