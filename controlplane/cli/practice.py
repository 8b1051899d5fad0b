"""redoubt practice gpu: look at, change and break the simulated GPUs of a practice node.

Works on the state file of the machine it runs on. What a real board forbids is refused: a counter never falls, and
what only a reset or a reboot clears stays until `inject reset` or `inject reboot`.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(no_args_is_help=True, help="Simulated hardware of practice nodes.")
gpu_app = typer.Typer(no_args_is_help=True, help="Simulated GPUs: show, set, inject.")
app.add_typer(gpu_app, name="gpu")

State = dict[str, str]
StatePath = Annotated[Path, typer.Option("--state", envvar="REDOUBT_SIM_NVML_STATE", help="The state file.")]
Gpu = Annotated[int, typer.Option("--gpu", min=0, help="Which GPU, counted from 0.")]

DEFAULT_STATE = Path("/var/lib/redoubt-practice/nvml.state")
FAILED, USAGE, REFUSED = 1, 2, 3
XID = 8
EVENTS_KEPT = 64
RESET_ACTION, REBOOT_ACTION = 1, 2

# Only a reset or a reboot clears these; `set` may not.
LATCHED = {"lost", "remap_pending", "remap_failed", "recovery_action", "sram_threshold_exceeded"}
VOLATILE = (
    "dram_corrected_volatile",
    "dram_uncorrected_volatile",
    "sram_corrected_volatile",
    "sram_uncorrected_volatile",
)
COUNTERS = {
    *VOLATILE, "dram_corrected_aggregate", "dram_uncorrected_aggregate", "sram_corrected_aggregate",
    "sram_uncorrected_aggregate", "remapped_corrected", "remapped_uncorrected", "pcie_replays", "energy_mj",
}  # fmt: skip
FIXED = {"name", "uuid", "serial", "pci", "pci_device_id", "pci_subsystem_id", "minor", "vbios"}


@gpu_app.command("show")
def show_gpus(
    state: StatePath = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Every key, as JSON.")] = False,
) -> None:
    """Show the simulated GPUs of this node."""
    now = read_state(state)
    gpus = [gpu_section(now, index) for index in range(count_gpus(now))]
    typer.echo(json.dumps(gpus, indent=2) if as_json else "\n".join(_line(i, gpu) for i, gpu in enumerate(gpus)))


@gpu_app.command("set")
def set_values(
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...")], gpu: Gpu, state: StatePath = DEFAULT_STATE
) -> None:
    """Change readings of one GPU, e.g. `set --gpu 0 temperature_c=88 utilisation_gpu=97`."""
    with changing(state) as now:
        for change in changes:
            _set_one(now, gpu, change)
    typer.echo(f"gpu {gpu}: {', '.join(changes)}")


@gpu_app.command("inject")
def inject_fault(
    fault: Annotated[str, typer.Argument(help="xid lost ecc remap remap-failed nvlink-down overheat reset reboot")],
    gpu: Gpu = 0,
    value: Annotated[int, typer.Option("--value", help="XID number, error count, or link number.")] = 0,
    state: StatePath = DEFAULT_STATE,
) -> None:
    """Break one GPU, or reset it, or reboot all."""
    if fault not in FAULTS:
        _stop(USAGE, f"there is no fault `{fault}`", f"choose one of: {' '.join(FAULTS)}")
    with changing(state) as now:
        _require_gpu(now, gpu)
        FAULTS[fault](now, gpu, value)
    typer.echo(f"gpu {gpu}: {fault}{f' {value}' if value else ''}")


def read_state(path: Path) -> State:
    """Read the state file as keys and values."""
    try:
        lines = path.read_text().splitlines()
    except OSError as wrong:
        _stop(
            FAILED,
            f"cannot read {path}: {wrong.strerror}",
            "run this on a GPU node of a practice site, or name --state",
        )
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


@contextmanager
def changing(path: Path) -> Iterator[State]:
    """Hand out the state, and replace the file in one piece when the block did not fail."""
    read_state(path)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_state(path)
        now_ns = _settle_energy(path, state)
        yield state
        _replace(path, state, now_ns)


def count_gpus(state: State) -> int:
    """Count the GPUs that the state describes."""
    return len({key.split(".")[1] for key in state if key.startswith("gpu.")})


def gpu_section(state: State, gpu: int) -> State:
    """Return the keys of one GPU."""
    prefix = f"gpu.{gpu}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def add_event(state: State, gpu: int, kind: int, data: int) -> None:
    """Append an event; the oldest are forgotten."""
    numbers = sorted(int(key.removeprefix("event.")) for key in state if key.startswith("event."))
    for old in numbers[: max(0, len(numbers) - EVENTS_KEPT + 1)]:
        del state[f"event.{old}"]
    state[f"event.{numbers[-1] + 1 if numbers else 1}"] = f"{gpu} {kind} {data}"


def _settle_energy(path: Path, state: State) -> int:
    """Add what was spent since the last change, at the power it had; return the time of this change."""
    fresh = _fresh(path)
    fresh.unlink(missing_ok=True)
    fresh.touch()
    now_ns = fresh.stat().st_mtime_ns
    _count_energy(state, (now_ns - path.stat().st_mtime_ns) // 1_000_000)
    return now_ns


def _replace(path: Path, state: State, now_ns: int) -> None:
    fresh = _fresh(path)
    fresh.write_text("".join(f"{key} = {value}\n" for key, value in state.items()))
    shutil.copymode(path, fresh)
    os.utime(fresh, ns=(now_ns, now_ns))  # the library counts energy from here
    fresh.replace(path)


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _count_energy(state: State, elapsed_ms: int) -> None:
    for gpu in range(count_gpus(state)):
        if "energy_mj" in gpu_section(state, gpu):
            spent_mj = max(0, elapsed_ms) * _number(state, gpu, "power_mw") // 1000
            _put(state, gpu, "energy_mj", _number(state, gpu, "energy_mj") + spent_mj)


def _set_one(state: State, gpu: int, change: str) -> None:
    key, equals, value = (part.strip() for part in change.partition("="))
    _require_gpu(state, gpu)
    known = gpu_section(state, gpu)
    if not equals or key not in known:
        near = get_close_matches(key, known, n=1) or ["redoubt practice gpu show --json"]
        _stop(USAGE, f"`{change}` is not KEY=VALUE with a key of gpu {gpu}", f"did you mean: {near[0]}")
    if not value.isdecimal():
        _stop(USAGE, f"`{value}` is no whole number", f"{key} is now {known[key]}")
    _refuse_impossible(key, int(value), known)
    _put(state, gpu, key, int(value))


def _refuse_impossible(key: str, value: int, known: State) -> None:
    if key in FIXED:
        _stop(REFUSED, f"{key} is burnt into the board", "write another state file with images/practice/gpu_state.py")
    if key in COUNTERS and value < int(known[key], 0):
        _stop(
            REFUSED, f"{key} is {known[key]} and counters never fall", "inject reset or reboot, or give a higher value"
        )
    if key in LATCHED and value < int(known[key], 0):
        _stop(REFUSED, f"{key} stays until a reset or a reboot", "redoubt practice gpu inject reset | reboot")


def _xid(state: State, gpu: int, value: int) -> None:
    if value <= 0:
        _stop(USAGE, "an XID needs its number", "redoubt practice gpu inject xid --gpu 0 --value 79")
    add_event(state, gpu, XID, value)


def _lose(state: State, gpu: int, _: int) -> None:
    add_event(state, gpu, XID, 79)
    _put(state, gpu, "recovery_action", REBOOT_ACTION)
    _put(state, gpu, "lost", 1)


def _ecc(state: State, gpu: int, value: int) -> None:
    """Uncorrectable errors in the memory: the driver contains them and asks for a reset."""
    for count in ("volatile", "aggregate"):
        _add(state, gpu, f"dram_uncorrected_{count}", value or 1)
    add_event(state, gpu, XID, 48)
    _put(state, gpu, "recovery_action", RESET_ACTION)


def _remap(state: State, gpu: int, value: int) -> None:
    _add(state, gpu, "remapped_uncorrected", value or 1)
    _put(state, gpu, "remap_pending", 1)
    add_event(state, gpu, XID, 63)
    _put(state, gpu, "recovery_action", RESET_ACTION)


def _fail_remap(state: State, gpu: int, _: int) -> None:
    _put(state, gpu, "remap_failed", 1)
    add_event(state, gpu, XID, 64)


def _drop_link(state: State, gpu: int, value: int) -> None:
    known = gpu_section(state, gpu)
    if not 0 <= value < int(known.get("nvlink_count", "0")):
        _stop(REFUSED, f"gpu {gpu} has no NVLink {value}", f"it has {known.get('nvlink_count', 'none')}")
    _put(state, gpu, "nvlink_down_mask", _number(state, gpu, "nvlink_down_mask") | 1 << value)
    add_event(state, gpu, XID, 74)


def _overheat(state: State, gpu: int, value: int) -> None:
    known = gpu_section(state, gpu)
    _put(state, gpu, "temperature_c", value or int(known["temperature_threshold_1"]) + 1)
    _put(state, gpu, "clocks_event_reasons", 0x40)  # hardware thermal slowdown


def _reset(state: State, gpu: int, _: int) -> None:
    known = gpu_section(state, gpu)
    if known.get("lost", "0") != "0":
        _stop(REFUSED, f"gpu {gpu} is lost, and a reset does not reach it", "redoubt practice gpu inject reboot")
    if any(key.startswith("process.") for key in known):
        _stop(REFUSED, f"gpu {gpu} is in use", "end its processes first")
    _recover(state, gpu)


def _reboot(state: State, _: int, __: int) -> None:
    for gpu in range(count_gpus(state)):
        for key in [key for key in state if key.startswith(f"gpu.{gpu}.process.")]:
            del state[key]
        _put(state, gpu, "lost", 0)
        _recover(state, gpu)


def _recover(state: State, gpu: int) -> None:
    known = gpu_section(state, gpu)
    fresh = {"remap_pending", "recovery_action", "nvlink_down_mask", "memory_used_mib", "utilisation_gpu", *VOLATILE}
    for key in fresh & known.keys():
        _put(state, gpu, key, 0)
    if "mig_pending" in known:
        _put(state, gpu, "mig_mode", int(known["mig_pending"]))


FAULTS: dict[str, Callable[[State, int, int], None]] = {
    "xid": _xid,
    "lost": _lose,
    "ecc": _ecc,
    "remap": _remap,
    "remap-failed": _fail_remap,
    "nvlink-down": _drop_link,
    "overheat": _overheat,
    "reset": _reset,
    "reboot": _reboot,
}


def _require_gpu(state: State, gpu: int) -> None:
    if gpu >= count_gpus(state):
        _stop(USAGE, f"there is no gpu {gpu}", f"this node has {count_gpus(state)}, counted from 0")


def _number(state: State, gpu: int, key: str) -> int:
    return int(state.get(f"gpu.{gpu}.{key}", "0"), 0)


def _put(state: State, gpu: int, key: str, value: int) -> None:
    state[f"gpu.{gpu}.{key}"] = str(value)


def _add(state: State, gpu: int, key: str, value: int) -> None:
    _put(state, gpu, key, _number(state, gpu, key) + value)


def _line(index: int, gpu: State) -> str:
    health = "LOST" if gpu.get("lost", "0") != "0" else f"{gpu['temperature_c']} C, {int(gpu['power_mw']) // 1000} W"
    return f"{index}  {gpu['name']}  {gpu['uuid']}  {gpu['memory_used_mib']}/{gpu['memory_total_mib']} MiB  {health}"


def _stop(code: int, fact: str, remedy: str) -> NoReturn:
    typer.echo(f"error: {fact}; {remedy}", err=True)
    raise typer.Exit(code)
