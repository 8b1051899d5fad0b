"""Reports to the control plane: the newest reading or none. What could not be sent is not kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import structlog

from controlplane.agent.certificates import read_certificates
from controlplane.agent.gpus import GpuInventory
from controlplane.agent.host import read_host
from controlplane.agent.proofs import read_proof, read_site_proof
from controlplane.contracts.agent import NodeReport
from controlplane.kit.clock import Clock
from controlplane.kit.errors import Unavailable

PATH = "/api/v1/agent/reports"

log = structlog.get_logger()


class Observer:
    """Reads this node; each report has a higher sequence than the last."""

    def __init__(self, read_gpus: Callable[[], GpuInventory], disk: Path, clock: Clock, version: str) -> None:
        self._read_gpus = read_gpus
        self._disk = disk
        self._clock = clock
        self._version = version
        self._sequence = 0
        self._gpu_error = ""

    def observe(self) -> NodeReport:
        """Read everything now. A driver that fails is told as no driver, and logged when that begins or ends."""
        self._sequence += 1
        seen = self._read_gpus()
        if seen.error != self._gpu_error:
            log.warning("nvml.failed" if seen.error else "nvml.works", error=seen.error)
            self._gpu_error = seen.error
        return NodeReport(
            observed_at=self._clock.now(),
            sequence=self._sequence,
            agent_version=self._version,
            host=read_host(self._disk),
            driver=seen.driver,
            gpus=seen.gpus,
            lost_gpus=seen.lost,
            proof=read_proof(),
            site_proof=read_site_proof(),
            certificates=read_certificates(),
        )


class Reporter:
    """Sends one reading a call. The caller repeats it, and waits longer while it fails."""

    def __init__(
        self, client: httpx.AsyncClient, observer: Observer, *, when_lapsed: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._observer = observer
        self._when_lapsed = when_lapsed

    async def report(self) -> None:
        """Read and send. Raises Unavailable when the control plane does not take it."""
        reading = await asyncio.to_thread(self._observer.observe)  # a GPU in trouble answers late
        body = reading.model_dump_json()
        try:
            answer = await self._client.post(PATH, content=body, headers={"content-type": "application/json"})
        except httpx.TransportError as error:
            raise Unavailable(
                f"no answer from {self._client.base_url}: {type(error).__name__} {error}",
                remedy="see that the api runs and that this node may reach it",
            ) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED and "certificate_expired" in answer.text:
            self._when_lapsed()  # by the control plane's clock, which decides
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise Unavailable(
                f"{self._client.base_url} answered {answer.status_code}: {answer.text[:200]}",
                remedy="see the log of the api",
            )
