"""MIG: the instances that a GPU is cut into."""

import pynvml

from controlplane.contracts.agent import MigInstance

MIB = 1024**2


def list_instances(handle: object) -> tuple[MigInstance, ...]:
    """Return the instances that jobs can be given, in the driver's order."""
    found = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except pynvml.NVMLError_NotFound:
            continue
        found.append(_read(device))
    return tuple(found)


def _read(device: object) -> MigInstance:
    return MigInstance(
        uuid=pynvml.nvmlDeviceGetUUID(device),
        profile=profile_of(pynvml.nvmlDeviceGetName(device)),
        gpu_instance=pynvml.nvmlDeviceGetGpuInstanceId(device),
        memory_total_bytes=pynvml.nvmlDeviceGetAttributes(device).memorySizeMB * MIB,
    )


def profile_of(name: str) -> str:
    """Return "1g.10gb" for "NVIDIA H100 80GB HBM3 MIG 1g.10gb"."""
    return name.rpartition("MIG ")[2].strip()
