"""One line of a batch: sent until it has an answer or a refusal that is not for a while."""

from typing import Final

import structlog

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.brake import Brake
from controlplane.gateway.batch.line_client import Reply, ask
from controlplane.gateway.batch.line_request import LineDoor, NoLonger
from controlplane.gateway.batch.lines import Line, answered_line, failed_line
from controlplane.gateway.batch.records import BatchRecord, Fault, line_id
from controlplane.gateway.batch.result_log import Entry
from controlplane.gateway.errors import BudgetRanOut, Refusal, WrongKey
from controlplane.gateway.hub import Hub
from controlplane.gateway.request import Request

log = structlog.get_logger()

_FOR_A_WHILE: Final = frozenset({429, 503})  # no budget, no place, no replica, no disk, no snapshot: yet
_LOST: Final = frozenset({502, 504})
_NO_ENDLESS: Final = (BudgetRanOut,)  # it began and was stopped: again would cost as much again


class LineWork:
    """Does lines of one batch, several at once."""

    def __init__(self, hub: Hub, archive: Archive, door: LineDoor, record: BatchRecord, brake: Brake) -> None:
        self._hub = hub
        self._limits = archive.limits
        self._door = door
        self._record = record
        self._brake = brake

    async def do(self, number: int, line: Line) -> Entry | None:
        """Return what is to be kept of it; None when it was let go without a result."""
        losses = 0
        while not self._brake.is_on:
            request, reply = await self._try(number, bytes(line.body))
            if reply is None:
                return None
            refusal = reply.refusal
            if refusal is None:
                self._brake.waiting = None
                return self._answered(number, line, request, reply)
            losses += refusal.status in _LOST or isinstance(refusal, _NO_ENDLESS)
            if not self._is_worth_another(refusal, losses):
                return self._refused(number, line, request, reply)
            self._brake.waiting = Fault(refusal.code, f"{refusal.detail}; {refusal.remedy}")
            await self._brake.pause(self._wait_s(refusal, losses))
        return None

    async def _try(self, number: int, body: bytes) -> tuple[Request | None, Reply | None]:
        try:
            request = self._door.admit(self._record, number, body)
        except NoLonger as over:
            code = "key_not_valid" if isinstance(over.refusal, WrongKey) else over.refusal.code
            self._brake.end("failed", Fault(code, f"{over.refusal.detail}; {over.refusal.remedy}"))
            return None, None
        except Refusal as refusal:
            return None, Reply(refusal.status, b"", refusal)
        return request, await ask(self._hub, request)  # None: the process ends

    def _is_worth_another(self, refusal: Refusal, losses: int) -> bool:
        return (refusal.status in _FOR_A_WHILE or refusal.status in _LOST) and losses < self._limits.losses

    def _wait_s(self, refusal: Refusal, losses: int) -> float:
        told = max(float(refusal.retry_after_s), self._limits.shortest_wait_s * (1 << losses))
        return min(told, self._limits.longest_wait_s)

    def _answered(self, number: int, line: Line, request: Request | None, reply: Reply) -> Entry:
        name = line_id(self._record, number)
        request_id = request.request_id.decode() if request is not None else ""
        try:
            result = answered_line(name, line.custom_id, reply.status, request_id, reply.body)
        except (ValueError, RecursionError):
            log.warning("batch.answer_unreadable", batch=self._record.id, line=number)
            fault = Fault("replica_failed", "the endpoint's answer is no JSON")
            return Entry("failed", number, failed_line(name, line.custom_id, fault))
        return Entry("answered", number, result)

    def _refused(self, number: int, line: Line, request: Request | None, reply: Reply) -> Entry:
        name, refusal = line_id(self._record, number), reply.refusal
        if request is None and refusal is not None:
            result = failed_line(name, line.custom_id, Fault(refusal.code, f"{refusal.detail}; {refusal.remedy}"))
        else:
            request_id = request.request_id.decode() if request is not None else ""
            result = answered_line(name, line.custom_id, reply.status, request_id, reply.body)
        return Entry("failed", number, result)
