"""What preflight reads about GPUs: the driver library as the agent asks it, the PCI bus, and who holds a device."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, open_files, processes, said, text

LIBRARY = "libnvidia-ml.so.1"
UNCORRECTED, SINCE_BOOT = 1, 0
NVIDIA, DISPLAYS, BRIDGE = "0x10de", ("0x0300", "0x0302"), "0x0680"


def readers() -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "gpu.driver": gpus,
        "gpu.bus": bus,
        "gpu.xids": xids,
        "gpu.holders": lambda: sorted(set(holders())),
    }


def gpus() -> list[dict[str, Any]]:
    """Return what the driver says about each GPU; a GPU that does not answer says so."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise Unread(f"{LIBRARY} is not installed") from None
    if code := library.nvmlInit_v2():
        raise Unread(f"the driver does not start: NVML says {code}")
    count = ctypes.c_uint()
    try:
        if code := library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            raise Unread(f"the driver does not count its GPUs: NVML says {code}")
        return [gpu(library, index) for index in range(count.value)]
    finally:
        library.nvmlShutdown()


def gpu(library: Any, index: int) -> dict[str, Any]:
    """Return what one GPU says; what it does not have is left out."""
    handle = ctypes.c_void_p()
    if code := library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
        return {"index": index, "lost": code}
    name, errors = ctypes.create_string_buffer(96), ctypes.c_ulonglong()
    found: dict[str, Any] = {"index": index}
    if code := library.nvmlDeviceGetName(handle, name, 96):
        return {"index": index, "lost": code}
    found["name"] = name.value.decode(errors="replace")
    for key, call in (
        ("width", "CurrPcieLinkWidth"),
        ("max_width", "MaxPcieLinkWidth"),
        ("max_generation", "MaxPcieLinkGeneration"),
    ):
        found |= numbers(library, f"nvmlDeviceGet{call}", handle, [key])
    if not library.nvmlDeviceGetTotalEccErrors(handle, UNCORRECTED, SINCE_BOOT, ctypes.byref(errors)):
        found["uncorrected"] = errors.value
    found |= numbers(
        library,
        "nvmlDeviceGetRemappedRows",
        handle,
        ["corrected_rows", "uncorrected_rows", "remap_pending", "remap_failed"],
    )
    return found | numbers(library, "nvmlDeviceGetMigMode", handle, ["mig", "mig_pending"])


def numbers(library: Any, call: str, handle: ctypes.c_void_p, names: list[str]) -> dict[str, int]:
    """Ask for numbers that belong together; a board that does not have them gives none."""
    values = [ctypes.c_uint() for _ in names]
    if not hasattr(library, call) or getattr(library, call)(handle, *(ctypes.byref(value) for value in values)):
        return {}
    return {name: value.value for name, value in zip(names, values, strict=True)}


def bus() -> dict[str, int]:
    """Count the GPUs and switches of NVIDIA on the PCI bus."""
    if not Path("/sys/bus/pci/devices").is_dir():
        raise Unread("no PCI bus is shown here")
    ours = [path.parent for path in Path("/sys/bus/pci/devices").glob("*/vendor") if text(str(path)) == NVIDIA]
    classes = [text(str(device / "class")) for device in ours]
    switches = sum(kind.startswith(BRIDGE) for kind in classes)
    manager = any(process["comm"].startswith("nv-fabricmanage") for process in processes())
    return {"gpus": sum(kind.startswith(DISPLAYS) for kind in classes), "switches": switches, "manager": int(manager)}


def xids() -> list[str]:
    """Return the errors that the driver wrote to this boot's kernel log."""
    try:
        log = said(["journalctl", "--dmesg", "--boot", "--no-pager", "--output=cat", "--grep=NVRM: Xid", "--lines=50"])
    except Unread as error:
        if str(error) == "journalctl: 1":  # nothing matches
            return []
        raise
    return [f"{device}: Xid {code}" for device, code in re.findall(r"Xid \(([^)]*)\): (\d+)", log)]


def holders() -> Iterator[str]:
    """Yield the units and programs that hold a GPU's device open."""
    for process in processes():
        if any(re.fullmatch(r"/dev/nvidia(?:\d+|ctl|-uvm)", target) for target in open_files(process["pid"])):
            yield f"{process['comm']} ({process['unit'] or 'no unit'})"
