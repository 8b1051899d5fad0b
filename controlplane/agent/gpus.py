"""GPUs as NVML tells them. The unmodified `pynvml` reads the driver's library, whatever stands behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any  # pynvml has no types

import pynvml

from controlplane.agent.mig import list_instances
from controlplane.agent.nvlink import Links, find_islands, read_links
from controlplane.contracts.agent import GpuReading, LostGpu, MigInstance

NO_DRIVER = {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}
NUMA_WORDS = 16  # 1024 NUMA nodes, the most that Linux is built for
WORD_BITS = 64


@dataclass(frozen=True)
class GpuInventory:
    """What was seen. `driver` is empty without a working driver; `error` then says why, if it ought to work."""

    driver: str = ""
    gpus: tuple[GpuReading, ...] = ()
    lost: tuple[LostGpu, ...] = ()
    error: str = ""


def read_gpus() -> GpuInventory:
    """Ask every GPU once. Attached only while it reads, so that no GPU reset ever waits for this process."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuInventory(error="" if error.value in NO_DRIVER else str(error))
    try:
        return _read_all()
    except pynvml.NVMLError as error:
        return GpuInventory(error=str(error))
    finally:
        pynvml.nvmlShutdown()


def _read_all() -> GpuInventory:
    links: dict[int, Links] = {}
    seen = [_read_one(index, links) for index in range(pynvml.nvmlDeviceGetCount())]
    islands = find_islands(links)
    return GpuInventory(
        driver=pynvml.nvmlSystemGetDriverVersion(),
        gpus=tuple(_placed(gpu, islands) for gpu in seen if isinstance(gpu, GpuReading)),
        lost=tuple(gpu for gpu in seen if isinstance(gpu, LostGpu)),
    )


def _placed(gpu: GpuReading, islands: Mapping[int, int]) -> GpuReading:
    return gpu.model_copy(update={"nvlink_island": islands.get(gpu.index)})


def _read_one(index: int, links: dict[int, Links]) -> GpuReading | LostGpu:
    """A GPU that cannot say who it is, or falls off the bus while it is asked, is lost; else `links` gets its own."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        found = _optional(read_links, handle)
        reading = GpuReading(
            index=index,
            nvlinks_up=None if found is None else found.up,
            **_identity(handle),
            **_gauges(handle),
            **_place(handle),
            **_mig(handle),
        )
    except pynvml.NVMLError as error:
        return LostGpu(index=index, error=str(error))
    if found is not None:
        links[index] = found
    return reading


def _identity(handle: object) -> dict[str, Any]:  # the fields of GpuReading
    capability = _optional(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return {
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "name": pynvml.nvmlDeviceGetName(handle),
        "serial": _optional(pynvml.nvmlDeviceGetSerial, handle),
        "minor": _optional(pynvml.nvmlDeviceGetMinorNumber, handle),
        "vbios": _optional(pynvml.nvmlDeviceGetVbiosVersion, handle),
        "compute_capability": None if capability is None else ".".join(str(part) for part in capability),
    }


def _gauges(handle: object) -> dict[str, Any]:  # the fields of GpuReading
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    power_mw = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
    utilisation = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return {
        "memory_total_bytes": memory.total,
        "memory_used_bytes": memory.used,
        "utilisation_percent": None if utilisation is None else utilisation.gpu,
        "temperature_c": _optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        "power_w": None if power_mw is None else round(power_mw / 1000),
        "ecc_uncorrected": _optional(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
        "recovery_action": _optional(_recovery_action, handle),
    }


def _place(handle: object) -> dict[str, Any]:  # the fields of GpuReading
    return {
        "pci_bus_id": pynvml.nvmlDeviceGetPciInfo(handle).busId,
        "pcie_generation": _optional(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
        "pcie_generation_max": _optional(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        "pcie_width": _optional(pynvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        "pcie_width_max": _optional(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        "numa_node": _optional(_numa_node, handle),
    }


def _mig(handle: object) -> dict[str, Any]:  # the fields of GpuReading
    modes = _optional(pynvml.nvmlDeviceGetMigMode, handle)
    if modes is None:
        return {}
    current, pending = modes
    instances: tuple[MigInstance, ...] | None = _optional(list_instances, handle) if current else None
    return {"mig_pending": bool(pending), "mig": instances}


def _optional(ask: Callable[..., Any], *arguments: object) -> Any:  # the type is that of the call
    """Return what the card says, or None where it cannot say; raises only when the GPU itself is lost."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        return None


def _numa_node(handle: object) -> int | None:
    """Return the NUMA node whose memory is nearest; nvmlDeviceGetNumaNodeId is for GPUs that are nodes themselves."""
    words = pynvml.nvmlDeviceGetMemoryAffinity(handle, NUMA_WORDS, pynvml.NVML_AFFINITY_SCOPE_NODE)
    nearest = [
        place * WORD_BITS + bit for place, word in enumerate(words) for bit in range(WORD_BITS) if word >> bit & 1
    ]
    return nearest[0] if nearest else None


def _recovery_action(handle: object) -> int:
    """Return the driver's own verdict: 0 none, 1 reset, 2 reboot, 3 drain, 4 drain and reset (nvml.h)."""
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    return int(field.value.uiVal)
