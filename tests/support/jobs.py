"""A site with two kinds of GPUs and two projects, whose jobs run in a table and whose supervisors the test plays."""

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any  # JSON of the API has no narrower type

import httpx

from controlplane.domains.jobs.loops.converging import JobLoops, JobPlace
from controlplane.domains.shares.tables import Share, ShareQuota
from tests.support.control_plane import ControlPlane

CARDS = {"gpu1": "NVIDIA H100 80GB HBM3", "gpu2": "NVIDIA A100-SXM4-80GB"}
NODES = {
    "nodes": [
        {"name": name, "address": f"10.0.0.{n}", "zone": "main", "purposes": [], "gpus": [{"type": kind, "count": 4}]}
        for n, (name, kind) in enumerate((("gpu1", "h100"), ("gpu2", "a100")), start=1)
    ]
}
TRAIN: dict[str, Any] = {"share": "blue", "command": ["python", "train.py"], "gpus": 2, "gpu_type": "h100"}


@dataclass
class JobSite:
    """`client` is an operator's; `tokens` are those of the supervisors that were let in, by run and restarts."""

    plane: ControlPlane
    client: httpx.AsyncClient
    tokens: dict[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place = JobPlace("python", "https://ctl1:8443", "PEM")
        self.loops = JobLoops(self.plane.database, self.plane.engine, place)

    @property
    def engine(self):
        return self.plane.engine

    async def prepare(self) -> None:
        await self.client.put("/nodes", json=NODES)
        await self.hear()
        async with self.plane.database.transaction() as tx:
            for slot, name in enumerate(("blue", "red"), start=1):
                tx.session.add(Share(name=name, kind="project", parent="site", slot=slot, weight=1, created_at=tx.now))
                await tx.session.flush()
                tx.session.add(ShareQuota(share=name, gpu_type="h100", guaranteed=2, most=4, set_at=tx.now))

    async def hear(self) -> None:
        for node, card in CARDS.items():
            await self.plane.report(node, gpus=4, name=card)

    async def pass_time(self, seconds: float) -> None:
        self.plane.clock.move(seconds)
        await self.hear()

    async def submit(self, **changes: Any) -> str:
        answer = await self.client.post("/jobs", json={**TRAIN, **changes})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def get(self, job_id: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/jobs/{job_id}")).json())

    async def states(self, job_id: str) -> list[str]:
        return [run["state"] for run in (await self.get(job_id))["elements"]]

    async def leases(self) -> list[str]:
        """Return who holds a live lease."""
        found = (await self.client.get("/leases")).json()["items"]
        return sorted(lease["owner"] for lease in found if not lease["ended_at"])

    async def register(self, run_id: str, /, restarts: int = 0, **changes: Any) -> httpx.Response:
        """Say what a supervisor says at its start."""
        spec = json.loads(self.order_of(run_id).environment["REDOUBT_JOB_SPEC"])
        run = self.engine.runs[run_id]
        token = f"token-of-{run_id}-{restarts}".ljust(40, "x")
        ask = {
            "run_id": run_id, "nonce": spec["nonce"], "token": token, "engine_ref": "7", "node": run.node or "gpu1",
            "restarts": restarts, "gpu_uuids": [f"GPU-{run.node}-{index}" for index in run.gpu_indexes],
        }  # fmt: skip
        answer = await self.client.post("/job-runs", json={**ask, **changes}, headers={"Authorization": ""})
        if answer.is_success:
            self.tokens[run_id, restarts] = str({**ask, **changes}["token"])
        return answer

    async def renew(self, run_id: str, restarts: int = 0, phase: str = "running", **more: Any) -> httpx.Response:
        body = {"restarts": restarts, "phase": phase, **more}
        return await self.client.post(f"/job-runs/{run_id}/lease", json=body, headers=self.bearer(run_id, restarts))

    async def ship(
        self, run_id: str, first: int, *words: str, restarts: int = 0, last: bool = False, token: str = ""
    ) -> httpx.Response:
        at = self.plane.clock.now().isoformat()
        parts = [{"stream": "out", "at": at, "data": b64encode(word.encode()).decode()} for word in words]
        body = {"restarts": restarts, "first_sequence": first, "parts": parts, "is_last": last}
        headers = {"Authorization": f"Bearer {token}"} if token else self.bearer(run_id, restarts)
        return await self.client.post(f"/job-runs/{run_id}/output", json=body, headers=headers)

    def bearer(self, run_id: str, restarts: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens.get((run_id, restarts), 'none')}"}

    def order_of(self, run_id: str):
        return next(order for order in self.engine.orders if order.name == run_id.partition(".")[0])
