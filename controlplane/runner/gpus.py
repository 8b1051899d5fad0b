"""Which GPUs are this run's own."""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.kit.nvml import Gpu, NoNvml, list_gpus


@dataclass(frozen=True)
class OwnGpus:
    """`problem` says why the run cannot go on, "" when it can."""

    uuids: tuple[str, ...]
    problem: str


def own_gpus(asked: int, environment: Mapping[str, str]) -> OwnGpus:
    """Return the GPUs that the engine gave us, and what is wrong when they are fewer than asked for."""
    if asked == 0:
        return OwnGpus((), "")
    try:
        seen = list_gpus()
    except NoNvml as error:
        return OwnGpus((), f"{asked} GPUs asked for and the NVIDIA driver does not answer: {error}")
    own = choose_gpus(seen, environment)
    if len(own) < asked:
        return OwnGpus(own, f"{asked} GPUs asked for, {len(own)} given: {', '.join(own) or 'none'}")
    return OwnGpus(own, "")


def choose_gpus(seen: tuple[Gpu, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Keep what the engine allotted.

    SLURM_JOB_GPUS counts the node's devices, whatever the job's cgroup hides. CUDA_VISIBLE_DEVICES counts what this
    process sees, or names UUIDs.
    """
    if job := environment.get("SLURM_JOB_GPUS"):
        minors = _numbers(job)
        return tuple(gpu.uuid for gpu in seen if gpu.minor in minors)
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is None:
        return tuple(gpu.uuid for gpu in seen)
    named = {part.strip() for part in visible.split(",")}
    return tuple(gpu.uuid for gpu in seen if gpu.uuid in named or str(gpu.index) in named)


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
