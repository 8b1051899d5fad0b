"""A line of a batch as a request: admitted anew each time, by the snapshot that is in force then."""

from datetime import datetime

from controlplane.contracts.levels import LEVELS
from controlplane.gateway import routes
from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.records import BatchRecord
from controlplane.gateway.directory import Directory, Grant, Terms
from controlplane.gateway.errors import KeyNotForThis, NotHere, Refusal, WrongKey
from controlplane.gateway.head import Head
from controlplane.gateway.hub import Hub
from controlplane.gateway.reception import to_request
from controlplane.gateway.request import Request, Work
from controlplane.kit.clock import to_us


class NoLonger(Exception):
    """Nothing of the batch may be done any more; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class LineDoor:
    """Lets the lines of all batches in."""

    def __init__(self, hub: Hub, archive: Archive) -> None:
        self._hub = hub
        self._archive = archive
        self._seen: Directory | None = None
        self._by_key: dict[str, Grant] = {}

    def admit(self, record: BatchRecord, number: int, body: bytes) -> Request:
        """Return the request. Raises NoLonger when its refusal is all lines', Refusal when it is this one's alone."""
        hub, source = self._hub, record.creator.source
        now = hub.clock.now()
        directory, request_id = hub.directory(now), hub.request_id()
        grant, terms = self._creator(directory, record, request_id, now)
        surface = routes.SURFACES[record.endpoint.encode()]
        work = _work(record, number, now)
        try:
            request = to_request(hub, directory, grant, terms, work, surface, body, source, request_id)
            self._check_zone(request.endpoint.zone)
        except Refusal as refusal:
            self._note(refusal, grant, directory, request_id, source)
            raise
        return request

    def _creator(
        self, directory: Directory, record: BatchRecord, request_id: bytes, now: datetime
    ) -> tuple[Grant, Terms]:
        """Return what the key of the batch may do now. Raises NoLonger."""
        creator = record.creator
        grant = self._grants(directory).get(creator.key_id)
        try:
            if grant is None or now >= grant.expires_at:
                raise WrongKey("the key of this batch is no longer valid", remedy="create it anew with another key")
            if not grant.lets_in(creator.source):
                detail = "the key of this batch may not be used from where it was created"
                raise KeyNotForThis(detail, remedy="call from one of its networks", code="address_not_allowed")
            self._archive.must_keep(directory, grant)
            return grant, grant.terms(_head(record))
        except Refusal as refusal:
            self._note(refusal, grant, directory, request_id, creator.source)
            raise NoLonger(refusal) from None

    def _grants(self, directory: Directory) -> dict[str, Grant]:
        """Return each key's secret that lasts longest: one may be renewed while a batch runs."""
        if self._seen is not directory:
            lasting = sorted(directory.grants.values(), key=lambda grant: grant.expires_at)
            self._seen, self._by_key = directory, {grant.key_id: grant for grant in lasting}
        return self._by_key

    def _check_zone(self, zone: str) -> None:
        own = self._archive.zone
        if own not in {"", zone}:
            detail = f"results of zone {zone} would be kept in zone {own}"
            raise NotHere(detail, remedy="send the batch to a gateway of that zone", code="outside_zone", param="model")

    def _note(
        self, refusal: Refusal, grant: Grant | None, directory: Directory, request_id: bytes, source: str
    ) -> None:
        hub = self._hub
        at_us = to_us(hub.clock.now())
        hub.denials.note(refusal, grant, directory, request_id=request_id, source=source, at_us=at_us, now_s=hub.tick)


def _head(record: BatchRecord) -> Head:
    """Return the head that would say what the batch is for."""
    creator = record.creator
    level = LEVELS[creator.classification].encode()
    path = record.endpoint.encode()
    return Head(b"POST", path, True, True, b"", 0, False, False, creator.purpose.encode(), level)  # noqa: FBT003 - fields in order


def _work(record: BatchRecord, number: int, now: datetime) -> Work:
    """Return what a line is a part of: a step of its own, so that only itself again is a retry of it."""
    creator = record.creator
    left_s = max(1.0, record.expires_at - now.timestamp())
    step = f"{creator.step or record.id[:20]}:{number}"[-80:]
    return Work(creator.workflow, creator.agent, creator.run, step, left_s, "batch")
