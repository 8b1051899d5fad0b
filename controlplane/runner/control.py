"""What a run says to the control plane: one registration, then a renewal every few seconds."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from controlplane.contracts.runs import RefusedMachine, Registered, RegisterRun, RenewedRun, RenewRun, RunPhase, RunSpec
from controlplane.kit.tls import run_client_context
from controlplane.runner.lease import Lease
from controlplane.runner.surroundings import NO_CONTROL_PLANE, REGISTRATION_REFUSED, RunOver

REGISTER_FOR_S = 120.0
LAST_WORD_S = 5.0
DOUBT_S = 1.0
LEASE_IS_OVER = frozenset({401, 403, 404, 409})
ASK_AGAIN = frozenset({408, 425, 429})

log = structlog.get_logger()
Shape = TypeVar("Shape", bound=BaseModel)


class ControlLink:
    """The run's side of the two calls; it trusts the site CA alone."""

    def __init__(self, spec: RunSpec, lease: Lease) -> None:
        self.told_to_drain = asyncio.Event()
        self._spec = spec
        self._lease = lease
        self._token = ""
        self._says = RenewRun(phase=RunPhase.STARTING)
        self._news = asyncio.Event()
        self._refused: Sequence[RefusedMachine] = ()
        self._tell_refused: Callable[[Sequence[RefusedMachine]], None] | None = None
        self._http = httpx.AsyncClient(
            base_url=spec.api_url,
            verify=run_client_context(spec.site_ca_pem) if spec.api_url.startswith("https:") else True,
            timeout=spec.renew_s,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def register(self, ask: RegisterRun) -> None:
        """Register once, for a bounded time while nobody answers; the lease starts here. Raises RunOver."""
        pause_s = 0.1
        with suppress(TimeoutError):
            async with asyncio.timeout(REGISTER_FOR_S):
                while not await self._has_registered(ask):
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 5.0)
                return
        raise RunOver(NO_CONTROL_PLANE, f"{self._spec.api_url} registered nothing within {REGISTER_FOR_S:.0f} s")

    def when_told_of_refused(self, act: Callable[[Sequence[RefusedMachine]], None]) -> None:
        """Call `act` with the machines that were revoked, now and with every renewal."""
        self._tell_refused = act
        act(self._refused)

    def say(self, phase: RunPhase) -> None:
        """Report a new phase at once rather than with the next renewal."""
        self._says = RenewRun(phase=phase)
        self._news.set()

    async def keep_lease(self) -> None:
        """Renew until the lease is over; raises nothing, whatever the control plane answers."""
        while self._lease.holds():
            self._news.clear()
            renewed = await self._has_renewed()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._spec.renew_s if renewed else min(1.0, self._spec.renew_s)):
                    await self._news.wait()

    async def settle_doubt(self) -> None:
        """Ask once, for a second at most: a no fences this run, silence leaves the choice to the gateway's snapshot."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DOUBT_S):
                await self._has_renewed()

    async def say_failed(self, detail: str) -> None:
        """Leave the reason behind; a control plane that is away learns it from the engine."""
        self._says = RenewRun(phase=RunPhase.FAILED, detail=detail)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                while self._token and self._lease.holds() and not await self._has_renewed():  # noqa: ASYNC110 - asks another process
                    await asyncio.sleep(0.5)

    async def _has_registered(self, ask: RegisterRun) -> bool:
        asked_at = self._lease.now()
        answer = await self._post("/api/v1/runs", ask, {})
        if answer is None:
            return False
        if answer.is_client_error:
            raise RunOver(REGISTRATION_REFUSED, f"the control plane refused this run: {answer.status_code}")
        if (registered := _read(Registered, answer)) is None:
            raise RunOver(REGISTRATION_REFUSED, f"the control plane answered {answer.status_code} and nothing readable")
        self._token = registered.run_token
        self._lease.renew(asked_at)
        return True

    async def _has_renewed(self) -> bool:
        asked_at = self._lease.now()
        path = f"/api/v1/runs/{self._spec.replica_id}/lease"
        answer = await self._post(path, self._says, {"Authorization": f"Bearer {self._token}"})
        if answer is None:
            return False
        if answer.status_code in LEASE_IS_OVER:
            self._lease.end(f"the control plane answered {answer.status_code}")
            return False
        if (renewed := _read(RenewedRun, answer)) is None:
            return False
        if not renewed.keep:
            self._lease.end("the control plane ended it")
            return False
        self._lease.renew(asked_at)
        self._refused = renewed.refused
        if self._tell_refused is not None:
            self._tell_refused(renewed.refused)
        if renewed.drain:
            self.told_to_drain.set()
        return True

    async def _post(self, path: str, body: BaseModel, headers: dict[str, str]) -> httpx.Response | None:
        """Return an answer that decides something; `None` when there was none, to be asked again."""
        try:
            answer = await self._http.post(
                path, content=body.model_dump_json(), headers={"Content-Type": "application/json", **headers}
            )
        except httpx.HTTPError as error:
            log.warning("control_plane.silent", path=path, error=f"{type(error).__name__}: {error}")
            return None
        if answer.is_success or (answer.is_client_error and answer.status_code not in ASK_AGAIN):
            return answer
        log.warning("control_plane.answered", path=path, status=answer.status_code)
        return None


def _read(shape: type[Shape], answer: httpx.Response) -> Shape | None:
    """Return what an answer says; one that cannot be read decides nothing."""
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError:
        log.warning("control_plane.unreadable", path=answer.url.path, status=answer.status_code)
        return None
