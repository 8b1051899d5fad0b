"""What a run of playbooks did, in the shapes that the callback writes and the plan, the journal and `--json` show."""

from typing import Any  # what a node says of itself is free-form

from pydantic import BaseModel


class HostTally(BaseModel):
    """Tasks of one node by outcome."""

    ok: int
    changed: int
    failed: int


class StageTime(BaseModel):
    """One stage; it did not run when no node was due for it."""

    name: str
    seconds: float
    changed: int
    ran: bool = True


class Change(BaseModel):
    host: str
    stage: str
    task: str


class Failure(BaseModel):
    kind: str
    host: str
    stage: str
    task: str
    cause: str


class Due(BaseModel):
    """Why a stage is evaluated on a node."""

    host: str
    stage: str
    why: str


class Restart(BaseModel):
    host: str
    stage: str
    unit: str


class Drain(BaseModel):
    """Why work on a node's GPUs has to end first."""

    host: str
    why: str


class RunRecord(BaseModel):
    """What a run of playbooks did. `facts` and `states` are what the nodes were when it began."""

    hosts: dict[str, HostTally]
    stages: list[StageTime]
    changes: list[Change]
    failures: list[Failure]
    seconds: float
    due: list[Due] = []
    restarts: list[Restart] = []
    drains: list[Drain] = []
    facts: dict[str, dict[str, Any]] = {}
    states: dict[str, dict[str, str]] = {}
    tasks: int = 0
    stage: str = ""
    finished: bool = True

    @property
    def changed(self) -> int:
        return sum(host.changed for host in self.hosts.values())
