"""What a node's agent reports every few seconds."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from controlplane.contracts.pki import LeafReading
from controlplane.contracts.proof import ProofSummary
from controlplane.contracts.strict import Strict


class MigInstance(Strict):
    """A part of a GPU that jobs are given whole. `profile` is NVIDIA's word, such as "1g.10gb"."""

    uuid: str
    profile: Annotated[str, Field(max_length=40)]
    gpu_instance: int
    memory_total_bytes: int


class GpuReading(Strict):
    """One GPU as NVML reports it; `None` where the card does not support the reading.

    `index` counts from 0 in NVML's order, `minor` is that of /dev/nvidiaN, which Slurm counts by. What has a default
    is not told by agents of before. `nvlink_island` is the lowest index of the GPUs that reach each other over NVLink,
    None for one that reaches no other. `mig` is None where MIG is off or not known, and lists the instances where it
    is on. PCIe links are slower while idle, so compare with `..._max`.
    """

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
    minor: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    numa_node: int | None = None
    nvlink_island: int | None = None
    nvlinks_up: int | None = None
    mig_pending: bool | None = None  # what the mode will be after the next reset
    mig: Annotated[tuple[MigInstance, ...], Field(max_length=16)] | None = None
    vbios: Annotated[str, Field(max_length=40)] | None = None
    compute_capability: str | None = None  # such as "9.0"


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
