"""Cuts the GPUs of this node as the site declares. What is as declared is not touched, so any step may be repeated."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any  # pynvml has no types

import pynvml

from controlplane.agent.mig import list_instances
from controlplane.contracts.mig import Profile, find_starts
from controlplane.domains.fleet.rules import describe_layout, gpu_type


class CannotCut(Exception):
    """A GPU stays, or was left, otherwise than declared; the text says which and what to do."""


@dataclass(frozen=True)
class DeclaredLayout:
    """`layout` has the profile of each instance of one GPU; empty: it is whole and MIG is off."""

    type: str
    count: int
    layout: tuple[str, ...] = ()


@dataclass(frozen=True)
class GpuCut:
    """One GPU: what is wanted, what is there, and whether they are the same."""

    index: int
    uuid: str
    wanted: tuple[str, ...]
    found: tuple[str, ...]
    is_done: bool


def read_cuts(declared: Sequence[DeclaredLayout]) -> tuple[GpuCut, ...]:
    """Compare every GPU with its declaration. Raises CannotCut when there are fewer GPUs than declared."""
    return _attached(lambda: tuple(_look(index, layout) for index, layout in _assign(declared)))


def apply_cuts(declared: Sequence[DeclaredLayout]) -> tuple[GpuCut, ...]:
    """Cut what is not as declared and read it back. Raises CannotCut, with the other GPUs as they were."""
    return _attached(lambda: tuple(_make_so(index, layout) for index, layout in _assign(declared)))


def _attached(work: Callable[[], tuple[GpuCut, ...]]) -> tuple[GpuCut, ...]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise CannotCut(f"the GPU driver does not answer: {error}; look at: journalctl --dmesg --grep NVRM") from None
    try:
        return work()
    except pynvml.NVMLError as error:
        raise CannotCut(f"the driver refuses: {error}; drain the node, end what uses its GPUs, apply again") from None
    finally:
        pynvml.nvmlShutdown()


def _assign(declared: Sequence[DeclaredLayout]) -> list[tuple[int, tuple[str, ...]]]:
    """Return (index, layout) of every declared GPU: those of a type take its entries in the node's order."""
    by_type: dict[str, list[int]] = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
        by_type.setdefault(gpu_type(name), []).append(index)
    found: list[tuple[int, tuple[str, ...]]] = []
    for entry in declared:
        here, by_type[entry.type] = (
            by_type.get(entry.type, [])[: entry.count],
            by_type.get(entry.type, [])[entry.count :],
        )
        if len(here) < entry.count:
            raise CannotCut(
                f"{entry.count} x {entry.type} declared, {len(here)} left to cut; correct site.yml or repair the node"
            )
        found += [(index, entry.layout) for index in here]
    return sorted(found)


def _look(index: int, wanted: tuple[str, ...]) -> GpuCut:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    mode, pending = _modes(handle)
    found = tuple(sorted(instance.profile for instance in list_instances(handle))) if mode else ()
    # an instance without its compute instance is no device and still takes its part of the board
    is_whole = not mode or len(_gpu_instances(handle)) == len(found)
    is_done = Counter(found) == Counter(wanted) and is_whole and mode == pending == bool(wanted)
    return GpuCut(index, str(pynvml.nvmlDeviceGetUUID(handle)), wanted, found, is_done)


def _make_so(index: int, wanted: tuple[str, ...]) -> GpuCut:
    before = _look(index, wanted)
    if before.is_done:
        return before
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    if pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        raise CannotCut(f"GPU {before.uuid} is in use; drain the node and wait until nothing runs, then apply again")
    plan = _plan(handle, wanted, before.uuid)
    if _modes(handle)[0]:
        _clear(handle)
    _set_mode(handle, on=bool(wanted), uuid=before.uuid)
    for profile, start in plan:
        _create(handle, profile, start)
    after = _look(index, wanted)
    if not after.is_done:
        raise CannotCut(
            f"GPU {after.uuid} is {describe_layout(after.found)} after the cut, {describe_layout(wanted)} declared; "
            "apply again, and if it stays so reboot the node"
        )
    return after


def _modes(handle: object) -> tuple[bool, bool]:
    """Return whether MIG is on, and whether it will be after the next reset; a board without MIG has it off."""
    try:
        mode, pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return False, False
    return bool(mode), bool(pending)


def _set_mode(handle: object, *, on: bool, uuid: str) -> None:
    if _modes(handle) == (on, on):
        return
    status = pynvml.nvmlDeviceSetMigMode(handle, int(on))
    if status != pynvml.NVML_SUCCESS or _modes(handle)[0] != on:
        why = pynvml.nvmlErrorString(status)
        raise CannotCut(f"GPU {uuid} changes its MIG mode only when it is reset ({why}); reboot the node, apply again")


def _profiles(handle: object) -> Iterator[Any]:
    """Yield what the board offers: id, name such as "MIG 1g.10gb", size, and how many of it fit."""
    for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            yield pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue


def _plan(handle: object, wanted: tuple[str, ...], uuid: str) -> list[tuple[Any, int]]:
    """Return the driver's profile and a start for each instance; raises CannotCut before anything is done."""
    offered = {_text(profile.name).removeprefix("MIG ").strip(): profile for profile in _profiles(handle)}
    unknown = sorted(set(wanted) - set(offered))
    if unknown:
        raise CannotCut(
            f"GPU {uuid} does not offer {', '.join(unknown)}, only {', '.join(sorted(offered)) or 'no MIG'}; "
            "correct mig in site.yml, then: redoubt site render"
        )
    places = {name: _places(handle, offered[name]) for name in set(wanted)}
    starts = find_starts([places[name] for name in wanted])
    if starts is None:
        raise CannotCut(f"{describe_layout(wanted)} are more than GPU {uuid} holds; correct mig in site.yml")
    return [(offered[name], start) for name, start in zip(wanted, starts, strict=True)]


def _places(handle: object, profile: Any) -> Profile:
    count = pynvml.c_uint(0)
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile.id, None, pynvml.byref(count))
    room = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile.id, room, pynvml.byref(count))
    return Profile(int(room[0].size), tuple(int(place.start) for place in room[: count.value]))


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _create(handle: object, profile: Any, start: int) -> None:
    """Make one instance and give all of it to one compute instance."""
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, _places(handle, profile).slices)
    made = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile.id, pynvml.byref(place))
    whole = next(info.id for info in _compute_profiles(made) if info.sliceCount == profile.sliceCount)
    pynvml.nvmlGpuInstanceCreateComputeInstance(made, whole)


def _compute_profiles(instance: object) -> Iterator[Any]:
    engines = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    for number in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            yield pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, engines)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue


def _clear(handle: object) -> None:
    for instance in _gpu_instances(handle):
        for profile in _compute_profiles(instance):
            for part in _list(
                pynvml.nvmlGpuInstanceGetComputeInstances, instance, profile, pynvml.c_nvmlComputeInstance_t
            ):
                pynvml.nvmlComputeInstanceDestroy(part)
        pynvml.nvmlGpuInstanceDestroy(instance)


def _gpu_instances(handle: object) -> list[Any]:
    return [
        instance
        for profile in _profiles(handle)
        for instance in _list(pynvml.nvmlDeviceGetGpuInstances, handle, profile, pynvml.c_nvmlGpuInstance_t)
    ]


def _list(ask: Callable[..., object], of: object, profile: Any, kind: Any) -> list[Any]:
    """Call a function that fills an array of handles; `instanceCount` is the most that it can give."""
    room = (kind * max(int(profile.instanceCount), 1))()
    count = pynvml.c_uint(len(room))
    ask(of, profile.id, room, pynvml.byref(count))
    return list(room[: count.value])
