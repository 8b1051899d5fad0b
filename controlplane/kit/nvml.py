"""Which GPUs the NVIDIA driver shows to this process."""

from dataclasses import dataclass

import pynvml


class NoNvml(Exception):
    """There is no NVIDIA driver here, or it does not answer."""


@dataclass(frozen=True)
class Gpu:
    """`index` is NVML's, `minor` that of /dev/nvidiaN."""

    index: int
    minor: int
    uuid: str
    name: str


def list_gpus() -> tuple[Gpu, ...]:
    """Return every GPU that answers, in NVML's order; raises NoNvml."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    try:
        answers = [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(gpu for gpu in answers if gpu is not None)
    except pynvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    finally:
        pynvml.nvmlShutdown()


def _read(index: int) -> Gpu | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        minor = _minor(handle, index)
        return Gpu(index, minor, str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle)))
    except pynvml.NVMLError_GpuIsLost:
        return None


def _minor(handle: object, index: int) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMinorNumber(handle))
    except pynvml.NVMLError_NotSupported:
        return index
