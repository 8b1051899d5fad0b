"""Asks the control plane for allotments: at once when somebody waits, every second while something is held."""

import asyncio
import contextlib
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from controlplane.contracts.budgets import Allotments, AskAllotments
from controlplane.gateway.budget.ledger import Ledger
from controlplane.kit.errors import Unavailable

PERIOD_S = 1.0
LEAST_PAUSE_S = 0.02  # between two asks
_PATH = "/api/v1/gateway/allotments"
_OK = 200
_SHORT_S = 0.1  # between two asks while somebody waits for what others give back
_TIMEOUT_S = 3.0  # below the time that a request waits


class AllotmentFollower:
    """`woken` is set by the ledger."""

    def __init__(
        self, http: httpx.AsyncClient, bearer: Callable[[], str | None], ledger: Ledger, woken: asyncio.Event
    ) -> None:
        self._http = http
        self._bearer = bearer
        self._ledger = ledger
        self._woken = woken

    async def step(self) -> None:
        """Wait until something is to be said, and say it. Raises Unavailable; what is asked is asked again then."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), PERIOD_S)
        self._woken.clear()
        await self.ask()
        if self._ledger.is_short:
            await asyncio.sleep(_SHORT_S)
            self._woken.set()

    async def give_back(self) -> None:
        """Let others have what this life will never use. Raises Unavailable."""
        self._ledger.accounts.give_back()
        await self.ask()

    async def ask(self) -> None:
        """Ask once, if there is anything to ask. Raises Unavailable."""
        ask = self._ledger.ask()
        if ask is None:
            return
        try:
            told = await self._send(ask)
        except BaseException:
            self._ledger.hear_nothing(ask.number)
            raise
        self._ledger.hear(ask.number, told.accounts)

    async def _send(self, ask: AskAllotments) -> Allotments:
        bearer = self._bearer()
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {bearer}"} if bearer else {})}
        try:
            answer = await self._http.post(_PATH, content=ask.model_dump_json(), headers=headers, timeout=_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Unavailable(f"the control plane does not answer: {error!r}", remedy="look at its service") from None
        if answer.status_code != _OK:
            detail = f"the control plane answered {answer.status_code} to ask {ask.number}: {answer.text[:300]}"
            raise Unavailable(detail, remedy="look at the api's log")
        try:
            return Allotments.model_validate_json(answer.content)
        except ValidationError:
            raise Unavailable("the answer is no word on allotments", remedy="correct control_plane.url") from None
