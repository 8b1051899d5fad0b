"""The engine port: place and isolate work, nothing more. Three calls, each safe to repeat."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class EngineState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Abilities:
    """What an engine declares it can do; callers ask, never guess."""

    name: str
    many_nodes: bool
    isolates_gpus: bool
    instant_start: bool


@dataclass(frozen=True)
class RunOrder:
    """What to start. `name` is unique for ever: starting it twice starts it once.

    `gpu_type` is "" when any will do or none is asked. `time_limit_s` is finite. `avoid_nodes` are never used.
    """

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    gpus: int
    gpu_type: str
    time_limit_s: int
    avoid_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObservedRun:
    """`ref` is the engine's own reference; `node` is empty while waiting; `reason` says why it waits or ended."""

    name: str
    ref: str
    state: EngineState
    node: str
    reason: str


class Engine(Protocol):
    abilities: Abilities

    async def start(self, order: RunOrder) -> ObservedRun:
        """Start the run, or return the one that already has this name. Raises Refused or Unavailable."""
        ...

    async def observe(self) -> dict[str, ObservedRun]:
        """Return every run of ours that the engine still knows, by name. Raises Unavailable, never an empty guess."""
        ...

    async def stop(self, name: str, *, grace_s: float) -> None:
        """Ask the run to end (SIGTERM, then SIGKILL after `grace_s`); a run that is gone is a success."""
        ...
