"""What a job's supervisor says to the control plane: one registration, then a word now and then, and output."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from controlplane.contracts.jobs import (
    JobPhase,
    JobSpec,
    OutputPart,
    RegisteredJobRun,
    RegisterJobRun,
    RenewedJobRun,
    RenewJobRun,
    ShipOutput,
    ShippedOutput,
)
from controlplane.kit.tls import run_client_context
from controlplane.runner.surroundings import RunOver

REGISTER_FOR_S = 1800.0  # a control plane that is away longer lets the start queue again
LAST_WORD_S = 5.0
START_REFUSED = 79  # slurm.conf queues a start that ends so again (RequeueExit)
ASK_AGAIN = frozenset({408, 425, 429})

log = structlog.get_logger()
Shape = TypeVar("Shape", bound=BaseModel)


def connect(spec: JobSpec) -> httpx.AsyncClient:
    """Return a client that trusts the site CA alone."""
    tls = run_client_context(spec.site_ca_pem) if spec.api_url.startswith("https:") else True
    return httpx.AsyncClient(base_url=spec.api_url, verify=tls, timeout=10.0, trust_env=False)


class JobLink:
    """One start's side of the calls. `superseded` is set when the command must die, `told_to_stop` when it should end.

    No answer, and no answer that cannot be read, changes anything: the command does not depend on the control plane.
    """

    def __init__(self, http: httpx.AsyncClient, run_id: str, restarts: int, token: str, *, renew_s: float) -> None:
        self.superseded = asyncio.Event()
        self.told_to_stop = asyncio.Event()
        self._http = http
        self._run_id, self._restarts, self._renew_s = run_id, restarts, renew_s
        self._bearer = {"Authorization": f"Bearer {token}"}
        self._says = RenewJobRun(restarts=restarts, phase=JobPhase.RUNNING)
        self._news = asyncio.Event()

    async def register(self, ask: RegisterJobRun) -> None:
        """Ask until the engine has told the control plane of this start. Raises RunOver when it may not run."""
        pause_s = 0.2
        with suppress(TimeoutError):
            async with asyncio.timeout(REGISTER_FOR_S):
                while (registered := await self._registered(ask)) is None:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, 5.0)
                if registered.refusal:
                    raise RunOver(START_REFUSED, registered.refusal)
                return
        raise RunOver(START_REFUSED, f"nobody registered this start within {REGISTER_FOR_S:.0f} s")

    def say(self, phase: JobPhase) -> None:
        """Tell a new phase at once rather than with the next word."""
        self._says = RenewJobRun(restarts=self._restarts, phase=phase)
        self._news.set()

    async def keep_in_touch(self) -> None:
        """Renew for ever; raises nothing, whatever is answered."""
        while True:
            self._news.clear()
            await self._renew()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renew_s):
                    await self._news.wait()

    async def say_last(self, phase: JobPhase, *, status: int | None = None, detail: str = "") -> None:
        """Leave the end behind; a control plane that is away learns it from the engine."""
        self._says = RenewJobRun(restarts=self._restarts, phase=phase, status=status, detail=detail[:2000])
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                while not await self._renew():  # noqa: ASYNC110 - asks another process
                    await asyncio.sleep(0.5)

    async def ship(self, first: int, parts: Sequence[OutputPart], *, is_last: bool) -> ShippedOutput | None:
        """Hand over parts of the output; None when nobody took them. Raises RunOver when nobody ever will."""
        ask = ShipOutput(restarts=self._restarts, first_sequence=first, parts=tuple(parts), is_last=is_last)
        answer = await self._post(f"/api/v1/job-runs/{self._run_id}/output", ask)
        if answer is not None and answer.is_client_error:
            raise RunOver(START_REFUSED, f"the control plane takes no output of this start: {answer.status_code}")
        return _read(ShippedOutput, answer)

    async def _registered(self, ask: RegisterJobRun) -> RegisteredJobRun | None:
        answer = await self._post("/api/v1/job-runs", ask)
        if answer is not None and answer.is_client_error:
            raise RunOver(
                START_REFUSED, f"the control plane refuses this start: {answer.status_code} {answer.text[:300]}"
            )
        return _read(RegisteredJobRun, answer)

    async def _renew(self) -> bool:
        answer = await self._post(f"/api/v1/job-runs/{self._run_id}/lease", self._says)
        if answer is not None and answer.status_code in {401, 403, 404}:
            log.warning("control_plane.refuses", status=answer.status_code)  # a restored database: not a word on us
            return True
        renewed = _read(RenewedJobRun, answer)
        if renewed is None:
            return False
        if not renewed.keep:
            self.superseded.set()
        if renewed.stop:
            self.told_to_stop.set()
        return True

    async def _post(self, path: str, body: BaseModel) -> httpx.Response | None:
        """Return an answer that decides something; None when there was none, to be asked again."""
        try:
            headers = {"Content-Type": "application/json", **self._bearer}
            answer = await self._http.post(path, content=body.model_dump_json(), headers=headers)
        except httpx.HTTPError as error:
            log.warning("control_plane.silent", path=path, error=f"{type(error).__name__}: {error}")
            return None
        if answer.is_success or (answer.is_client_error and answer.status_code not in ASK_AGAIN):
            return answer
        log.info("control_plane.answered", path=path, status=answer.status_code)
        return None


def _read(shape: type[Shape], answer: httpx.Response | None) -> Shape | None:
    """Return what an answer says; one that cannot be read decides nothing."""
    if answer is None or not answer.is_success:
        return None
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError:
        log.warning("control_plane.unreadable", path=answer.url.path, status=answer.status_code)
        return None
