"""Firmware, GPUs, fabric: what decides whether a node can do its work at speed. Warn where only speed is at stake."""

import re
from collections import Counter
from typing import Any  # facts are JSON

from controlplane.sitespec.preflight.check import Check, Judgement, Unread, View, listed, nothing

# Programs that hold GPUs because Redoubt or the driver wants them to.
OURS = re.compile(r"\((?:redoubt-\S+|slurm\S+|nvidia-\S+|.*\.scope)\)$")


def secure_boot(view: View) -> Judgement:
    found = view.facts["firmware.secure_boot"]
    return Judgement(found, "on" if found else "off", "on")


def lockdown(view: View) -> Judgement:
    found = re.findall(r"\[(\w+)\]", view.facts["firmware.lockdown"])
    return Judgement(found != ["confidentiality"], listed(found), "none or integrity")


def tpm(view: View) -> Judgement:
    found = view.facts["firmware.tpm"]
    return Judgement(found == "2", f"version {found}" if found else "none", "version 2")


def iommu(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    found = view.facts["firmware.iommu"]
    return Judgement(not any("DMA" in kind for kind in found), listed(found, none="off"), "off or identity")


def acs(view: View) -> Judgement | None:
    return nothing(view.facts["firmware.acs"], limit="no bridge redirects") if view.has_gpus else None


def governor(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    found = view.facts["firmware.governor"]
    return Judgement(found == "performance", found, "performance")


def numa(view: View) -> Judgement | None:
    if not view.has_gpus or (found := view.facts["firmware.numa"])["nodes"] < 2:
        return None
    return Judgement(not found["unplaced"], listed(found["unplaced"]), "every GPU has a memory node")


def gpu_count(view: View) -> Judgement | None:
    """Compare by type: a type is a word of the product name."""
    declared = Counter({gpus.type: gpus.count for gpus in view.node.gpus})
    if not declared:
        return None
    seen: Counter[str] = Counter()
    for name in (str(one["name"]).lower() for one in _gpus(view) if "name" in one):
        words = re.split(r"[^a-z0-9]+", name)
        seen[next((kind for kind in declared if kind in words), name)] += 1
    return Judgement(seen == declared, _counted(seen), _counted(declared))


def gpu_undeclared(view: View) -> Judgement | None:
    if view.has_gpus:
        return None
    found = view.facts["gpu.bus"]["gpus"]
    return Judgement(not found, f"{found} on the bus", "none declared")


def gpu_lost(view: View) -> Judgement | None:
    return nothing([f"GPU {one['index']}" for one in _gpus(view) if "lost" in one]) if view.has_gpus else None


def gpu_link(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    slow = [
        f"GPU {one['index']} x{one['width']} of x{one['max_width']}"
        for one in _gpus(view)
        if one.get("width", 0) < one.get("max_width", 0)
    ]
    return nothing(slow, limit="full width")


def gpu_memory(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    bad = [
        f"GPU {one['index']}: {one.get('uncorrected', 0)} uncorrected"
        + (", remap pending" if one.get("remap_pending") else "")
        + (", remap failed" if one.get("remap_failed") else "")
        for one in _gpus(view)
        if one.get("uncorrected") or one.get("remap_pending") or one.get("remap_failed")
    ]
    return nothing(bad)


def gpu_mig(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    return nothing(
        [f"GPU {one['index']}" for one in _gpus(view) if one.get("mig") or one.get("mig_pending")], limit="off"
    )


def gpu_xids(view: View) -> Judgement | None:
    return nothing(view.facts["gpu.xids"]) if view.has_gpus else None


def gpu_holders(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    return nothing(
        [one for one in view.facts["gpu.holders"] if not OURS.search(one)], limit="Redoubt and its jobs alone"
    )


def fabric_manager(view: View) -> Judgement | None:
    if not view.has_gpus or not (found := view.facts["gpu.bus"])["switches"]:
        return None
    return Judgement(bool(found["manager"]), "runs" if found["manager"] else "does not run", "runs beside NVSwitch")


def fabric_ports(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    ports = view.facts["fabric.ports"]
    down = [f"{port['name']} {port['state'].partition(' ')[2]}" for port in ports if "ACTIVE" not in port["state"]]
    return nothing(down, limit="every port active")


def link(view: View) -> Judgement:
    one = _own_interface(view)
    return Judgement(bool(one["up"]), f"{one['name']} {'up' if one['up'] else 'down'}", "up")


def damaged(view: View) -> Judgement:
    one = _own_interface(view)
    if one["damaged"] < 0:
        raise Unread(f"{one['name']} counts no damaged frames")
    return Judgement(one["damaged"] == 0, f"{one['damaged']} frames on {one['name']}", "none")


def address(view: View) -> Judgement:
    every = [address for one in view.facts["network.interfaces"] for address in one["addresses"]]
    return Judgement(str(view.node.address) in every, listed(every), str(view.node.address))


def _own_interface(view: View) -> dict[str, Any]:
    for one in view.facts["network.interfaces"]:
        if str(view.node.address) in one["addresses"]:
            return dict(one)
    raise Unread("no interface has the node's address")


def _gpus(view: View) -> list[dict[str, Any]]:
    return list(view.facts["gpu.driver"])


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "none"


CHECKS = (
    Check("firmware.secure_boot", "warn", "switch Secure Boot on; the distribution's modules are signed", secure_boot),
    Check(
        "firmware.lockdown",
        "warn",
        "boot with lockdown=integrity: the other mode shuts drivers out of memory",
        lockdown,
    ),
    Check("firmware.tpm", "warn", "switch the TPM on in the firmware", tpm),
    Check("firmware.iommu", "warn", "boot with iommu=pt: translating each access slows GPU to NIC", iommu),
    Check("firmware.acs", "warn", "switch ACS off in the firmware for the bridges above GPUs and NICs", acs),
    Check(
        "firmware.power_profile",
        "warn",
        "choose the performance profile in the firmware, or cpupower frequency-set",
        governor,
    ),
    Check("firmware.numa", "warn", "set nodes per socket (NPS) so that each GPU belongs to one", numa),
    Check("gpu.count", "block", "reseat or replace what is missing, or correct gpus in site.yml", gpu_count),
    Check("gpu.undeclared", "warn", "declare them under gpus in site.yml, or nobody can use them", gpu_undeclared),
    Check("gpu.lost", "block", "power the node off and on; if it stays, open a case with its serial number", gpu_lost),
    Check("gpu.pcie_link", "warn", "reseat the board or its riser: the link runs narrower than it can", gpu_link),
    Check(
        "gpu.memory_errors",
        "block",
        "reset the GPU (nvidia-smi --gpu-reset); if a remap failed, replace it",
        gpu_memory,
    ),
    Check("gpu.mig", "block", "nvidia-smi -mig 0: site.yml declares whole GPUs", gpu_mig),
    Check("gpu.xids", "warn", "look up the Xid; 48, 63, 74, 79 and 95 ask for service", gpu_xids),
    Check("gpu.holders", "warn", "end the program: Slurm believes the GPU is free", gpu_holders),
    Check(
        "gpu.fabric_manager",
        "block",
        "install and start nvidia-fabricmanager in the version of the driver",
        fabric_manager,
    ),
    Check("fabric.ports", "warn", "look at cable and switch; a job over this port would hang", fabric_ports),
    Check("fabric.link", "block", "connect the cable of this interface", link),
    Check("fabric.damaged_frames", "warn", "clean or replace cable and transceiver", damaged),
    Check("network.address", "block", "give the node its address from site.yml, or correct site.yml", address),
)
