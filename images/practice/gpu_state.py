"""Write the state file of the simulated GPUs of one practice node: `python gpu_state.py h100 --count 4 --seed gpu1`.

`--island 2` makes NVLink islands of two GPUs, `--numa 1` puts all on one NUMA node. The same words give the same
bytes. Names, sizes and limits are those the real boards report; a key that a board does not have is left out, and the
library then answers "not supported", as the driver does.
"""

import argparse
import sys
import uuid
from dataclasses import dataclass

SPACE = uuid.UUID("6f1d9a52-3f0c-5c0e-9d0b-2f6b8f6a7e10")
EVENT_TYPES = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
SITE = {"driver_version": "580.95.05", "nvml_version": "13.580.95.05", "cuda_version": "13000"}


@dataclass(frozen=True)
class Profile:
    """What one board reports about itself."""

    name: str
    pci_device_id: int
    pci_subsystem_id: int
    architecture: int
    compute_capability: int
    cores: int
    memory_total_mib: int
    memory_reserved_mib: int
    bar1_total_mib: int
    memory_banks: int
    power_limit_mw: int
    idle_mw: int
    clocks_max: tuple[int, int, int, int]
    thresholds: dict[int, int]
    pcie_generation: int
    vbios: str
    nvlinks: int = 0
    nvlink_version: int = 6
    mig: tuple[str, ...] = ()
    has_memory_temperature: bool = True


# Profiles as nvml.h numbers them: "NUMBER = ID SLICES INSTANCES MIB NAME". Ids, counts and sizes of the 80 GB boards
# are those that `nvidia-smi mig -lgip` prints for an H100; the H200 has NVIDIA's names, and sizes by proportion.
MIG_80GB = (
    "0 = 19 1 7 9984 1g.10gb", "9 = 15 2 4 20096 1g.20gb", "1 = 14 2 3 20096 2g.20gb", "2 = 9 4 2 40448 3g.40gb",
    "3 = 5 4 1 40448 4g.40gb", "4 = 0 8 1 81152 7g.80gb",
)  # fmt: skip
MIG_141GB = (
    "0 = 19 1 7 16896 1g.18gb", "9 = 15 2 4 33792 1g.35gb", "1 = 14 2 3 33792 2g.35gb", "2 = 9 4 2 71424 3g.71gb",
    "3 = 5 4 1 71424 4g.71gb", "4 = 0 8 1 143104 7g.141gb",
)  # fmt: skip
HOPPER_LIMITS = {0: 92, 1: 89, 2: 95, 3: 87}
PROFILES = {
    "h100": Profile(
        name="NVIDIA H100 80GB HBM3", pci_device_id=0x233010DE, pci_subsystem_id=0x16C110DE, architecture=9,
        compute_capability=90, cores=16896, memory_total_mib=81559, memory_reserved_mib=551, bar1_total_mib=131072,
        memory_banks=2560, power_limit_mw=700_000, idle_mw=70_000, clocks_max=(1980, 1980, 2619, 1545),
        thresholds=HOPPER_LIMITS, pcie_generation=5, vbios="96.00.99.00.01", nvlinks=18, mig=MIG_80GB,
    ),
    "h200": Profile(
        name="NVIDIA H200", pci_device_id=0x233510DE, pci_subsystem_id=0x18BE10DE, architecture=9,
        compute_capability=90, cores=16896, memory_total_mib=143771, memory_reserved_mib=606, bar1_total_mib=262144,
        memory_banks=3072, power_limit_mw=700_000, idle_mw=76_000, clocks_max=(1980, 1980, 3201, 1545),
        thresholds=HOPPER_LIMITS, pcie_generation=5, vbios="96.00.BC.00.01", nvlinks=18, mig=MIG_141GB,
    ),
    # The data sheet and what public read-outs of the driver show; nobody recorded one here.
    "a100": Profile(
        name="NVIDIA A100-SXM4-80GB", pci_device_id=0x20B210DE, pci_subsystem_id=0x147F10DE, architecture=7,
        compute_capability=80, cores=6912, memory_total_mib=81920, memory_reserved_mib=653, bar1_total_mib=131072,
        memory_banks=640, power_limit_mw=400_000, idle_mw=60_000, clocks_max=(1410, 1410, 1593, 1290),
        thresholds={0: 92, 1: 89, 2: 95, 3: 85}, pcie_generation=4, vbios="92.00.45.00.03", nvlinks=12,
        nvlink_version=5, mig=MIG_80GB,
    ),
    "a10": Profile(
        name="NVIDIA A10", pci_device_id=0x223610DE, pci_subsystem_id=0x148210DE, architecture=7,
        compute_capability=86, cores=9216, memory_total_mib=23028, memory_reserved_mib=512, bar1_total_mib=32768,
        memory_banks=192, power_limit_mw=150_000, idle_mw=16_000, clocks_max=(1695, 1695, 6251, 1575),
        thresholds={0: 98, 1: 95, 3: 88}, pcie_generation=4, vbios="94.02.75.00.01", has_memory_temperature=False,
    ),
    "l40s": Profile(
        name="NVIDIA L40S", pci_device_id=0x26B910DE, pci_subsystem_id=0x185110DE, architecture=8,
        compute_capability=89, cores=18176, memory_total_mib=46068, memory_reserved_mib=593, bar1_total_mib=65536,
        memory_banks=192, power_limit_mw=350_000, idle_mw=35_000, clocks_max=(2520, 2520, 9001, 1965),
        thresholds={0: 98, 1: 95, 3: 88}, pcie_generation=4, vbios="95.02.66.00.02", has_memory_temperature=False,
    ),
}  # fmt: skip


def render_state(profile: str, *, count: int, seed: str, island: int = 16, numa_nodes: int = 2) -> str:
    """Return the state file of a node with `count` healthy, idle GPUs of one profile; the seed names the node.

    `island` is how many GPUs reach each other over NVLink, where the board has it; NUMA nodes get an equal part each.
    """
    lines = [f"{key} = {value}" for key, value in SITE.items()]
    for index in range(count):
        place = {"nvlink_island": index // island, "numa_node": index * numa_nodes // count}
        described = _describe(PROFILES[profile], index, seed, place)
        lines += [f"gpu.{index}.{key} = {value}" for key, value in described.items()]
    return "\n".join(lines) + "\n"


def _describe(board: Profile, index: int, seed: str, place: dict[str, int]) -> dict[str, str | int]:
    return {
        **_identity(board, index, seed),
        **place,
        **_gauges(board),
        **_counters(board),
        **(_links(board) if board.nvlinks else {}),
        **(_mig(board) if board.mig else {}),
    }


def _identity(board: Profile, index: int, seed: str) -> dict[str, str | int]:
    number = uuid.uuid5(SPACE, f"{seed}/{index}")
    return {
        "name": board.name,
        "uuid": f"GPU-{number}",
        "serial": f"{number.int % 10**13:013d}",
        "pci": f"00000000:{0x1B + 0x20 * index % 0xE0 + index // 7:02X}:00.0",
        "pci_device_id": f"0x{board.pci_device_id:08X}",
        "pci_subsystem_id": f"0x{board.pci_subsystem_id:08X}",
        "vbios": board.vbios,
        "minor": index,
        "brand": 14,
        "architecture": board.architecture,
        "compute_capability": board.compute_capability,
        "cores": board.cores,
        "event_types": EVENT_TYPES,
    }


def _gauges(board: Profile) -> dict[str, str | int]:
    warm: dict[str, str | int] = {"temperature_memory_c": 40} if board.has_memory_temperature else {}
    return {
        "memory_total_mib": board.memory_total_mib,
        "memory_reserved_mib": board.memory_reserved_mib,
        "memory_used_mib": 0,
        "bar1_total_mib": board.bar1_total_mib,
        "utilisation_gpu": 0,
        "utilisation_memory": 0,
        "temperature_c": 32,
        **warm,
        **{f"temperature_threshold_{kind}": degrees for kind, degrees in board.thresholds.items()},
        "power_mw": board.idle_mw,
        "power_limit_mw": board.power_limit_mw,
        **{f"clock_{kind}": highest // 5 for kind, highest in enumerate(board.clocks_max)},
        **{f"clock_max_{kind}": highest for kind, highest in enumerate(board.clocks_max)},
        "clocks_event_reasons": "0x1",
        "performance_state": 0,
        "persistence_mode": 1,
        "compute_mode": 0,
        "pcie_generation": board.pcie_generation,
        "pcie_generation_max": board.pcie_generation,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_kib_per_s_0": 0,
        "pcie_kib_per_s_1": 0,
        "recovery_action": 0,
        "lost": 0,
    }


def _counters(board: Profile) -> dict[str, str | int]:
    kinds = [f"{kind}_{count}" for kind in ("corrected", "uncorrected") for count in ("volatile", "aggregate")]
    return {
        "ecc_mode": 1,
        **{f"{place}_{kind}": 0 for place in ("dram", "sram") for kind in kinds},
        "sram_threshold_exceeded": 0,
        "memory_banks": board.memory_banks,
        "remapped_corrected": 0,
        "remapped_uncorrected": 0,
        "remap_pending": 0,
        "remap_failed": 0,
        "pcie_replays": 0,
        "energy_mj": 0,
    }


def _links(board: Profile) -> dict[str, str | int]:
    return {
        "nvlink_count": board.nvlinks,
        "nvlink_version": board.nvlink_version,
        "nvlink_down_mask": 0,
        "fabric_state": 3,
    }


def _mig(board: Profile) -> dict[str, str | int]:
    profiles = dict(line.split(" = ") for line in board.mig)
    named = {f"mig_profile.{number}": profile for number, profile in profiles.items()}
    return {"mig_mode": 0, "mig_pending": 0, "mig_devices_max": 7, **named}


def main() -> int:
    """Print the state file that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("--count", type=int, default=4, choices=range(1, 9))
    parser.add_argument("--seed", default="node", help="the name of the node; another name gives other UUIDs")
    parser.add_argument("--island", type=int, default=16, choices=range(1, 17), help="GPUs in one NVLink island")
    parser.add_argument("--numa", type=int, default=2, choices=range(1, 9), help="NUMA nodes that share the GPUs")
    asked = parser.parse_args()
    text = render_state(asked.profile, count=asked.count, seed=asked.seed, island=asked.island, numa_nodes=asked.numa)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
