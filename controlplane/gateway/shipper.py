"""Ships the spools to the control plane: in order, again until it is taken, and taken once however often it is sent."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import structlog
from pydantic import ValidationError

from controlplane.contracts.spool import ShipSpool, SpoolTaken
from controlplane.gateway.spool import Spool
from controlplane.gateway.spool_folder import KEPT_BYTES, SpoolReader, adopt_dead
from controlplane.kit.clock import Clock, to_us
from controlplane.kit.errors import Unavailable

log = structlog.get_logger()

_PATH = "/api/v1/gateway/spool"
_OK = 200
_CONFLICT = 409
_LOOK_FOR_DEAD_S = 5.0
_TIDY_S = 1.0


class Shipper:
    """`own` is this worker's spool; the spools of workers that died are shipped first, by whoever finds them."""

    def __init__(
        self,
        *,
        http: httpx.AsyncClient,
        bearer: Callable[[], str | None],
        spool: Spool,
        own: SpoolReader,
        root: Path,
        clock: Clock,
    ) -> None:
        self._http = http
        self._bearer = bearer
        self._spool = spool
        self._own = own
        self._root = root
        self._clock = clock
        self._adopted: list[SpoolReader] = []
        self._looked_at_s = -_LOOK_FOR_DEAD_S
        self._tidied_at_s = 0.0

    async def step(self) -> None:
        """Ship all there is. Raises Unavailable; what was not taken is sent again by the next step."""
        try:
            await self._adopt()
            await self._ship_each()
        finally:
            await self._tidy()

    async def _ship_each(self) -> None:
        """Ship every spool, also when one is refused; raises the first Unavailable at the end."""
        first: Unavailable | None = None
        for reader, below in (*((one, None) for one in self._adopted), (self._own, self._spool.durable_seq)):
            try:
                await self._ship(reader, below=below)
            except Unavailable as error:
                first = first or error
        if first is not None:
            raise first

    async def _adopt(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._looked_at_s < _LOOK_FOR_DEAD_S:
            return
        self._looked_at_s = now_s
        mine = {self._own.boot, *(reader.boot for reader in self._adopted)}
        self._adopted += await asyncio.to_thread(adopt_dead, self._root, mine, to_us(self._clock.now()))

    async def _ship(self, reader: SpoolReader, *, below: int | None) -> None:
        if not reader.is_placed:
            reader.move(await self._send(reader, []))
        while lines := await asyncio.to_thread(reader.read, below=below):
            taken = await self._send(reader, lines)
            if taken <= reader.next_seq:
                raise Unavailable("the control plane took no line of the spool", remedy="look at the api's log")
            reader.move(taken)

    async def _send(self, reader: SpoolReader, lines: list[bytes]) -> int:
        boot, first = reader.boot, reader.next_seq if lines else 0
        ask = ShipSpool(boot=boot, first=first, lines=tuple(line.decode() for line in lines))
        bearer = self._bearer()
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {bearer}"} if bearer else {})}
        try:
            answer = await self._http.post(_PATH, content=ask.model_dump_json(), headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"the control plane does not answer: {error!r}", remedy="look at its service") from None
        if answer.status_code == _CONFLICT:
            for one in (*self._adopted, self._own):
                one.is_placed = False  # it may have come back from a backup: then it wants older spools again as well
            log.error("spool.refused", boot=boot, first=first, answer=answer.text[:300])
        if answer.status_code != _OK:
            detail = f"the control plane answered {answer.status_code} to lines from {first} of spool {boot}"
            raise Unavailable(f"{detail}: {answer.text[:300]}", remedy="look at the api's log; the spool is kept")
        try:
            return SpoolTaken.model_validate_json(answer.content).next_seq
        except ValidationError:
            raise Unavailable("the answer is no word on a spool", remedy="correct control_plane.url") from None

    async def _tidy(self) -> None:
        now, now_s = self._clock.now(), self._clock.monotonic()
        if now_s - self._tidied_at_s < _TIDY_S:
            return
        self._tidied_at_s = now_s
        kept_bytes = KEPT_BYTES
        for reader in (self._own, *reversed(self._adopted)):
            kept_bytes = await asyncio.to_thread(reader.drop_old, now, kept_bytes=kept_bytes)
        for reader in [one for one in self._adopted if one.is_over(now)]:
            self._adopted.remove(reader)
            reader.remove()
        backlogs = [reader.backlog_bytes() for reader in (*self._adopted, self._own)]
        self._spool.correct_backlog(sum(backlogs))
