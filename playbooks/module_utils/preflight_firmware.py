"""What preflight reads about firmware and board, without a tool of a vendor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, is_container, text

ACS_CAPABILITY, ACS_REDIRECTS = 0x000D, 0x001C  # request, completion and upstream redirect (PCI Express 6.12.1)
EXTENDED = 0x100
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def readers() -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "firmware.secure_boot": secure_boot,
        "firmware.lockdown": lambda: text(
            "/sys/kernel/security/lockdown", "the kernel's security folder is not shown here"
        ),
        "firmware.tpm": tpm,
        "firmware.iommu": iommu,
        "firmware.acs": acs,
        "firmware.governor": lambda: text(GOVERNOR, "the kernel sets no clock of the CPU here"),
        "firmware.numa": numa,
    }


def secure_boot() -> bool:
    """Tell whether the firmware checks what it starts."""
    found = sorted(Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"))
    if not found:
        raise Unread("no EFI variables are shown here")
    return found[0].read_bytes()[4] == 1


def tpm() -> str:
    """Return the version of the TPM, or nothing."""
    if is_container():
        raise Unread("a container is not shown its host's TPM")
    found = sorted(Path("/sys/class/tpm").glob("tpm[0-9]*")) if Path("/sys/class/tpm").is_dir() else []
    return text(str(found[0] / "tpm_version_major")) if found else ""


def iommu() -> list[str]:
    """Return the kinds of mapping that the IOMMU's groups have; nothing when it is off."""
    groups = Path("/sys/kernel/iommu_groups")
    if not groups.is_dir():
        raise Unread("this kernel shows no IOMMU groups")
    return sorted({text(str(kind)) for kind in groups.glob("*/type")})


def acs() -> list[str]:
    """Return PCIe bridges that send traffic between devices through the root, which slows GPU to NIC."""
    bridges = [
        path.parent for path in Path("/sys/bus/pci/devices").glob("*/class") if text(str(path)).startswith("0x0604")
    ]
    if not bridges:
        raise Unread("no PCIe bridge is shown here")
    return sorted(bridge.name for bridge in bridges if redirects((bridge / "config").read_bytes()))


def redirects(config: bytes) -> bool:
    """Tell whether the access control of a bridge's configuration space redirects peers."""
    offset = EXTENDED
    while offset >= EXTENDED and offset + 8 <= len(config):
        head = int.from_bytes(config[offset : offset + 4], "little")
        if head & 0xFFFF == ACS_CAPABILITY:
            return bool(int.from_bytes(config[offset + 6 : offset + 8], "little") & ACS_REDIRECTS)
        offset = head >> 20
    return False


def numa() -> dict[str, Any]:
    """Return how many memory nodes there are, and GPUs that the firmware does not place in one."""
    nodes = list(Path("/sys/devices/system/node").glob("node[0-9]*"))
    if not nodes:
        raise Unread("no memory nodes are shown here")
    vendors = [path.parent for path in Path("/sys/bus/pci/devices").glob("*/vendor") if text(str(path)) == "0x10de"]
    unplaced = [device.name for device in vendors if text(str(device / "numa_node")) == "-1"]
    return {"nodes": len(nodes), "unplaced": sorted(unplaced)}
