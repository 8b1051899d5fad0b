"""Record what every reading call of a driver library answers, so that the simulated one can be held against a real one.

Run it where a GPU is: `python record.py > h200.json`. Identities (serials, UUIDs, addresses) are left out.
"""

import ctypes
import json
from collections.abc import Callable

import pynvml as nv

# Read once per GPU. Each is a name without the prefix and the words after the handle.
READINGS: tuple[tuple[object, ...], ...] = (
    ("Name",),
    ("Index",),
    ("MinorNumber",),
    ("Brand",),
    ("Architecture",),
    ("CudaComputeCapability",),
    ("MemoryInfo",),
    ("MemoryInfo", nv.nvmlMemory_v2),
    ("BAR1MemoryInfo",),
    ("UtilizationRates",),
    ("Temperature", nv.NVML_TEMPERATURE_GPU),
    *(("TemperatureThreshold", kind) for kind in range(8)),
    ("MarginTemperature",),
    ("PowerUsage",),
    ("EnforcedPowerLimit",),
    ("PowerManagementLimit",),
    ("PowerManagementLimitConstraints",),
    ("TotalEnergyConsumption",),
    *(("ClockInfo", kind) for kind in range(4)),
    *(("MaxClockInfo", kind) for kind in range(4)),
    ("ApplicationsClock", nv.NVML_CLOCK_SM),
    ("SupportedMemoryClocks",),
    ("CurrentClocksEventReasons",),
    ("CurrentClocksThrottleReasons",),
    *(("ViolationStatus", kind) for kind in range(11)),
    ("PerformanceState",),
    ("PersistenceMode",),
    ("ComputeMode",),
    ("EccMode",),
    ("TotalEccErrors", 0, 0),
    ("TotalEccErrors", 1, 1),
    *(("MemoryErrorCounter", kind, count, place) for kind in (0, 1) for count in (0, 1) for place in range(8)),
    ("RemappedRows",),
    ("RowRemapperHistogram",),
    ("RetiredPages", 0),
    ("RetiredPagesPendingStatus",),
    ("PcieReplayCounter",),
    ("CurrPcieLinkGeneration",),
    ("MaxPcieLinkGeneration",),
    ("CurrPcieLinkWidth",),
    ("MaxPcieLinkWidth",),
    ("PcieThroughput", 0),
    ("NvLinkState", 0),
    ("NvLinkState", 17),
    ("NvLinkState", 18),
    ("NvLinkRemoteDeviceType", 0),
    ("NvLinkVersion", 0),
    ("NvLinkErrorCounter", 0, 0),
    ("NvLinkErrorCounter", 0, 3),
    ("SupportedEventTypes",),
    ("VbiosVersion",),
    ("MemoryAffinity", 16, 0),
    ("NumaNodeId",),
    ("MigMode",),
    ("MaxMigDeviceCount",),
    ("MigDeviceHandleByIndex", 0),
    ("GpuInstanceId",),
    ("ComputeInstanceId",),
    ("Attributes_v2",),
    ("ComputeRunningProcesses",),
    ("GraphicsRunningProcesses",),
    ("ProcessUtilization", 0),
    ("NumGpuCores",),
    ("MemoryBusWidth",),
    ("FanSpeed",),
    ("BoardPartNumber",),
)


def record() -> dict[str, object]:
    """Read everything once."""
    nv.nvmlInit()
    handle = nv.nvmlDeviceGetHandleByIndex(0)
    answers = {_key(*reading): _answer(_reader(str(reading[0])), handle, *reading[1:]) for reading in READINGS}
    answers["SramEccErrorStatus"] = _answer(_read_sram, handle)
    answers["GpuFabricInfoV"] = _answer(_read_fabric, handle)
    answers["CpuAffinity"] = _answer(lambda gpu: any(nv.nvmlDeviceGetCpuAffinity(gpu, 16)), handle)
    answers["SystemGetDriverVersion"] = nv.nvmlSystemGetDriverVersion()
    answers["SystemGetNVMLVersion"] = nv.nvmlSystemGetNVMLVersion()
    answers["SystemGetCudaDriverVersion"] = nv.nvmlSystemGetCudaDriverVersion_v2()
    answers["fields"] = _read_fields(handle)
    answers["lost_handle"] = _answer(lambda _: nv.nvmlDeviceGetHandleByIndex(nv.nvmlDeviceGetCount()), handle)
    nv.nvmlShutdown()
    return answers


def _key(name: object, *words: object) -> str:
    return "/".join(str(word) for word in (name, *words))


def _reader(name: str) -> Callable[..., object]:
    found: Callable[..., object] = getattr(nv, f"nvmlDeviceGet{name}")
    return found


def _answer(read: Callable[..., object], *words: object) -> object:
    try:
        return _plain(read(*words))
    except nv.NVMLError as refusal:
        return {"error": refusal.value}


def _plain(value: object) -> object:
    if isinstance(value, ctypes.Structure):
        return {str(field[0]): _plain(getattr(value, str(field[0]))) for field in value._fields_}
    if isinstance(value, ctypes.Array | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str | int | float | bool) else None


def _read_sram(handle: object) -> object:
    status = nv.c_nvmlEccSramErrorStatus_v1_t()
    status.version = nv.nvmlEccSramErrorStatus_v1
    nv.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return status


def _read_fabric(handle: object) -> object:
    info = nv.c_nvmlGpuFabricInfo_v2_t()
    info.version = nv.nvmlGpuFabricInfo_v2
    nv.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    return {"status": info.status, "state": info.state, "healthMask": info.healthMask}


def _read_fields(handle: object) -> dict[str, object]:
    """Map each field id to its answer, value type and value."""
    found = {}
    for field in range(1, 274):
        value = nv.nvmlDeviceGetFieldValues(handle, [field])[0]
        found[str(field)] = (
            [value.nvmlReturn, value.valueType, value.value.ullVal] if not value.nvmlReturn else value.nvmlReturn
        )
    return found


if __name__ == "__main__":
    print(json.dumps(record(), indent=1))
