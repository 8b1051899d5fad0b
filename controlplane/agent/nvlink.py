"""Which GPUs of a node reach each other over NVLink, directly or through the same switch."""

from collections.abc import Mapping
from dataclasses import dataclass

import pynvml

NOWHERE = "00000000:00:00.0"  # what some boards call a far end that they do not know


@dataclass(frozen=True)
class Links:
    """The far ends of a GPU's links that are up: PCI addresses of GPUs and of NVLink switches."""

    own: str
    far: frozenset[str]
    up: int


def read_links(handle: object) -> Links:
    """Ask every link of one GPU; raises NVMLError where the board has none."""
    up, far = 0, set()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if not pynvml.nvmlDeviceGetNvLinkState(handle, link):
                continue
            up += 1
            far.add(str(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).upper())
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_GPU_IS_LOST or (link == 0 and not up):
                raise
            if error.value == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                break  # this board has fewer links than a board can have
    return Links(str(pynvml.nvmlDeviceGetPciInfo(handle).busId).upper(), frozenset(far - {NOWHERE}), up)


def find_islands(links: Mapping[int, Links]) -> dict[int, int]:
    """Return index -> lowest index of its island, for every GPU that reaches another one."""
    islands: dict[int, int] = {}
    for index in sorted(links):
        if index not in islands:
            members = _reached(index, links)
            islands |= dict.fromkeys(members, index) if len(members) > 1 else {}
    return islands


def _reached(start: int, links: Mapping[int, Links]) -> set[int]:
    gpus = {link.own for link in links.values()}
    seen, todo = {start}, [start]
    while todo:
        here = links[todo.pop()]
        near = {index for index, other in links.items() if index not in seen and _touch(here, other, gpus)}
        seen |= near
        todo += near
    return seen


def _touch(one: Links, other: Links, gpus: set[str]) -> bool:
    """Each is the other's far end, or both lead to the same switch: a far end that is no GPU of this node."""
    return (other.own in one.far and one.own in other.far) or bool((one.far & other.far) - gpus)
