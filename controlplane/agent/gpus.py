"""GPUs as NVML tells them. The unmodified `pynvml` reads the driver's library, whatever stands behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any  # pynvml has no types

import pynvml

from controlplane.contracts.agent import GpuReading, LostGpu

NO_DRIVER = {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}


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
    seen = [_read_one(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return GpuInventory(
        driver=pynvml.nvmlSystemGetDriverVersion(),
        gpus=tuple(gpu for gpu in seen if isinstance(gpu, GpuReading)),
        lost=tuple(gpu for gpu in seen if isinstance(gpu, LostGpu)),
    )


def _read_one(index: int) -> GpuReading | LostGpu:
    """A GPU that cannot say who it is, or that falls off the bus while it is asked, is lost."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        power_mw = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
        utilisation = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
        return GpuReading(
            index=index,
            uuid=pynvml.nvmlDeviceGetUUID(handle),
            name=pynvml.nvmlDeviceGetName(handle),
            serial=_optional(pynvml.nvmlDeviceGetSerial, handle),
            pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.used,
            utilisation_percent=None if utilisation is None else utilisation.gpu,
            temperature_c=_optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else round(power_mw / 1000),
            ecc_uncorrected=_optional(
                pynvml.nvmlDeviceGetTotalEccErrors,
                handle,
                pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                pynvml.NVML_VOLATILE_ECC,
            ),
            recovery_action=_optional(_recovery_action, handle),
        )
    except pynvml.NVMLError as error:
        return LostGpu(index=index, error=str(error))


def _optional(ask: Callable[..., Any], *arguments: object) -> Any:  # the type is that of the call
    """Return what the card says, or None where it cannot say; raises only when the GPU itself is lost."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        return None


def _recovery_action(handle: object) -> int:
    """Return the driver's own verdict: 0 none, 1 reset, 2 reboot, 3 drain, 4 drain and reset (nvml.h)."""
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    return int(field.value.uiVal)
