"""The engine port: place and isolate work, nothing more. Three calls, each safe to repeat."""

from dataclasses import dataclass
from datetime import datetime
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
    arrays: bool = False


@dataclass(frozen=True)
class EndWarning:
    """The signal that a run gets `before_s` seconds before it is ended, also when it is preempted."""

    signal: str  # such as "USR1"
    before_s: int


@dataclass(frozen=True)
class RunOrder:
    """What to start. `name` is unique for ever: starting it twice starts it once.

    `gpu_type` is "" when any will do or none is asked. `time_limit_s` is finite. `avoid_nodes` are never used, and
    where `only_nodes` names some, no other is. What is "" is the engine's own choice.
    """

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    gpus: int
    gpu_type: str
    time_limit_s: int
    avoid_nodes: tuple[str, ...] = ()
    only_nodes: tuple[str, ...] = ()
    user: str = ""  # the POSIX user it runs as
    account: str = ""  # whose share it uses
    partition: str = ""
    qos: str = ""
    folder: str = ""  # on the node; its log is there, under its name
    cpus: int = 1
    memory_mb: int = 0  # 0: the engine's own default
    requeues: bool = False  # after preemption, or when its node is lost, it waits and starts again
    warning: EndWarning | None = None
    array: str = ""  # such as "0-9%2"; every element is a run of its own, named NAME.INDEX
    nice: int = 0  # 0 to 1000: how far it lets others of its class go first


@dataclass(frozen=True)
class ObservedRun:
    """`ref` is the engine's own reference; `node` is empty while waiting; `reason` says why it waits or ended.

    `gpu_indexes` count the node's devices, as its driver does. `restarts` grows each time that it starts again.
    """

    name: str
    ref: str
    state: EngineState
    node: str
    reason: str
    gpu_indexes: tuple[int, ...] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    restarts: int = 0
    status: int = 0  # of the process that ended


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
