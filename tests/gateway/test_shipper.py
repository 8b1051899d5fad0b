"""Every spool of a node reaches the control plane, whatever it says to the others."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from controlplane.contracts.spool import ShipSpool
from controlplane.gateway.records import Chain, Closed, Opened
from controlplane.gateway.shipper import Shipper
from controlplane.gateway.spool import Spool
from controlplane.gateway.spool_file import SpoolFile
from controlplane.gateway.spool_folder import SpoolReader, make_spool
from controlplane.kit.errors import Unavailable

DEAD, FURTHER, OWN = "aa" * 16, "bb" * 16, "cc" * 16


class DaysAhead:
    """A clock that is some days ahead."""

    def __init__(self, days: int = 0) -> None:
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def monotonic(self) -> float:
        return 100.0


class Node:
    """A gateway's spools and a control plane that refuses some of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: set[str] = set()
        self.taken: dict[str, int] = {}

    def leave_dead(self, boot: str) -> Path:
        folder, lock = make_spool(self.root, boot)
        file = SpoolFile(folder, Chain())
        file.append([Opened(at_us=0, node="gw1")])
        file.close()
        os.close(lock)
        return folder

    async def live(self, boot: str, *, days: int = 0) -> int:
        """Start a worker, ship once, and stop it; return what it says its backlog is. Raises Unavailable."""
        folder, lock = make_spool(self.root, boot)
        spool = Spool(SpoolFile(folder, Chain()), Opened(at_us=0, node="gw1"), most_bytes=1 << 20)
        async with httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(self._take)) as http:
            own = SpoolReader(folder, lock)
            shipper = Shipper(
                http=http, bearer=lambda: None, spool=spool, own=own, root=self.root, clock=DaysAhead(days)
            )
            await spool.close(Closed(at_us=9))
            try:
                await shipper.step()
            finally:
                for reader in (*shipper._adopted, own):  # noqa: SLF001 - what a process leaves
                    os.close(reader._lock)  # noqa: SLF001 - as its process dies
        return spool.backlog_bytes

    def _take(self, request: httpx.Request) -> httpx.Response:
        shipped = ShipSpool.model_validate_json(request.content)
        if shipped.boot in self.refused:
            return httpx.Response(409, json={"code": "spool_broken"})
        if shipped.lines:
            self.taken[shipped.boot] = shipped.first + len(shipped.lines)
        return httpx.Response(200, json={"next_seq": self.taken.get(shipped.boot, 0)})


async def test_a_spool_that_is_refused_keeps_no_other_from_being_shipped(tmp_path):
    node = Node(tmp_path)
    node.leave_dead(DEAD)
    node.leave_dead(FURTHER)
    node.refused = {DEAD}

    with pytest.raises(Unavailable) as refusal:
        await node.live(OWN)

    assert DEAD in refusal.value.detail
    assert node.taken == {FURTHER: 2, OWN: 2}


async def test_a_dead_spool_that_was_shipped_whole_goes_after_a_restart(tmp_path):
    node = Node(tmp_path)
    folder = node.leave_dead(DEAD)
    assert await node.live(OWN) == 0

    assert await node.live(FURTHER) == 0
    assert folder.exists()
    await node.live("dd" * 16, days=8)

    assert not folder.exists()
