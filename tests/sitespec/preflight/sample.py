"""Facts of a node that is as it should be, and of a control host; tests change one thing."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from controlplane.sitespec.preflight.check import Verdict
from controlplane.sitespec.preflight.judge import judge
from controlplane.sitespec.text import parse_site
from tests.support.source import ROOT

SITE = parse_site((ROOT / "inventory/example/site.yml").read_text())
NOW = 1_800_000_000.0
GPU = {
    "index": 0, "name": "NVIDIA H100 80GB HBM3", "width": 16, "max_width": 16, "max_generation": 5, "uncorrected": 0,
    "remap_pending": 0, "remap_failed": 0, "mig": 0, "mig_pending": 0,
}  # fmt: skip
BUNDLE = {
    "digest": "d" * 64, "architecture": "amd64", "features": ["base", "depot", "postgres", "slurm", "time"],
    "models": [], "size_bytes": 1 << 30, "created_at_s": NOW - 86400, "expires_at_s": NOW + 86400,
}  # fmt: skip
CONTROL = {
    "control.free_bytes": 100 << 30, "control.free_inodes": 1_000_000, "control.memory_mb": 8000,
    "control.python": [3, 12, 1], "control.unknown_hosts": [], "input.digest": "", "input.bundle_digest": "d" * 64,
}  # fmt: skip
FACTS: dict[str, Any] = {
    "os.release": "debian 13",
    "os.architecture": "x86_64",
    "os.kernel": {"running": "6.12.1", "newest": "6.12.1"},
    "os.pending_reboot": [],
    "os.packages": {"held": [], "broken": []},
    "os.sources": [],
    "os.sources_read": True,
    "os.unattended_upgrades": False,
    "os.driver_leftovers": [],
    "os.modules": ["nvidia"],
    "os.tmp_options": ["rw", "nosuid"],
    "os.lsm": ["lockdown", "apparmor"],
    "os.cgroups": "v2",
    "os.fips": "0",
    "os.failed_units": [],
    "os.proxies": [],
    "node.cpus": 128,
    "node.memory_mb": 1_031_000,
    "node.time": NOW,
    "node.clock": {"offset_s": 0.001, "stratum": 9},
    "asked_at": NOW - 0.2,
    "answered_at": NOW + 0.3,
    "firmware.secure_boot": True,
    "firmware.lockdown": "none [integrity] confidentiality",
    "firmware.tpm": "2",
    "firmware.iommu": ["identity"],
    "firmware.acs": [],
    "firmware.governor": "performance",
    "firmware.numa": {"nodes": 2, "unplaced": []},
    "gpu.bus": {"gpus": 8, "switches": 4, "manager": 1},
    "gpu.xids": [],
    "gpu.holders": ["nvidia-persiste (nvidia-persistenced.service)"],
    "network.default_routes": [],
    "network.nameservers": [],
    "network.neighbours": {},
    "network.listeners": [{"protocol": "tcp", "port": 22, "comm": "sshd", "unit": "ssh.service"}],
    "network.nft_tables": ["inet redoubt_boundary"],
    "network.legacy_tables": [],
    "fabric.ports": [{"name": "mlx5_0/1", "state": "4: ACTIVE", "rate": "400 Gb/sec", "link": "Ethernet", "gids": []}],
    "storage.room": {"/": {"free_bytes": 100 << 30, "free_inodes": 1_000_000, "inodes": 2_000_000, "read_only": 0}},
    "storage.disks": [{"name": "nvme0n1", "serial": "", "size_bytes": 1, "holds": "ext4", "in_use": True}],
    "safety.users": [],
    "safety.jobs": ["7 of redoubt-serve"],
    "safety.maintenance": "",
    "safety.backup_age_s": 3600.0,
    "boundary.escapes": [],
    "boundary.depot": True,
}


def node_facts(name: str, **changed: Any) -> dict[str, Any]:
    """Facts of one node of the example site; a keyword with two underscores stands for a dot."""
    node = SITE.node(name)
    facts = deepcopy(FACTS)
    gpus = [{**GPU, "name": f"NVIDIA {one.type.upper()} X"} for one in node.gpus for _ in range(one.count)]
    facts |= {
        "node.hostname": name,
        "node.machine_id": f"id of {name}",
        "gpu.driver": [{**gpu, "index": index} for index, gpu in enumerate(gpus)],
        "network.interfaces": [interface(str(node.address), name)],
    }
    if not node.gpus:
        facts["gpu.bus"] = {"gpus": 0, "switches": 0, "manager": 0}
    return facts | {key.replace("__", "."): value for key, value in changed.items()}


def interface(address: str, mac: str) -> dict[str, Any]:
    return {
        "name": "eth0", "mac": mac, "mtu": 1500, "up": True, "addresses": [address], "speed_mb": 25000, "damaged": 0
    }  # fmt: skip


def judged(
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    control: Mapping[str, Any] | None = None,
    bundle: Mapping[str, Any] | None = None,
    now: float = NOW,
    skipped: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Judge the example site with some facts of some nodes changed."""
    nodes = {node.name: {**node_facts(node.name), **(changed or {}).get(node.name, {})} for node in SITE.nodes}
    return judge(
        SITE,
        nodes=nodes,
        control={**CONTROL, **(control or {})},
        bundle={**BUNDLE, **(bundle or {})},
        now=now,
        skipped=skipped or {},
    )
