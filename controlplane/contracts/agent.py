"""What a node's agent reports every few seconds."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from controlplane.contracts.pki import LeafReading
from controlplane.contracts.proof import ProofSummary
from controlplane.contracts.strict import Strict


class GpuReading(Strict):
    """One GPU as NVML reports it; `None` where the card does not support the reading."""

    index: int
    uuid: str
    name: str
    serial: str | None
    pci_bus_id: str
    memory_total_bytes: int
    memory_used_bytes: int
    utilisation_percent: int | None
    temperature_c: int | None
    power_w: int | None
    ecc_uncorrected: int | None
    recovery_action: int | None


class LostGpu(Strict):
    """A GPU that NVML lists and that no longer answers."""

    index: int
    error: str


class HostReading(Strict):
    hostname: str
    boot_id: str
    uptime_s: int
    cpus: int
    load_1m_milli: int  # load average x 1000: no floats cross a signature
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int


class NodeReport(Strict):
    """The node's identity is its certificate, so no name is in here. `driver` is empty without an NVIDIA driver.

    `site_proof` is the newest proof of the whole site, which only the authority's node has.
    """

    observed_at: AwareDatetime
    sequence: int
    agent_version: str
    host: HostReading
    driver: str
    gpus: tuple[GpuReading, ...]
    lost_gpus: tuple[LostGpu, ...]
    proof: ProofSummary | None = None
    site_proof: ProofSummary | None = None
    certificates: Annotated[tuple[LeafReading, ...], Field(max_length=16)] | None = None
