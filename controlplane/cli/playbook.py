"""Run playbooks in a process of their own: progress on standard error, a record of what happened as the result."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # variables of playbooks have no narrower type

from pydantic import BaseModel

from controlplane.kit.errors import RedoubtError, Refused, Unavailable

STANDARD_ERROR = 2  # the descriptor: progress goes there even where sys.stderr is captured
REPOSITORY = Path(__file__).parents[2]


class HostTally(BaseModel):
    """Tasks of one node by outcome."""

    ok: int
    changed: int
    failed: int


class StageTime(BaseModel):
    name: str
    seconds: float
    changed: int


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


class RunRecord(BaseModel):
    """What a run of playbooks did."""

    hosts: dict[str, HostTally]
    stages: list[StageTime]
    changes: list[Change]
    failures: list[Failure]
    seconds: float

    @property
    def changed(self) -> int:
        return sum(host.changed for host in self.hosts.values())


@dataclass(frozen=True)
class Reach:
    """How the nodes are reached: an ssh_config of their own, and the network namespace they live in."""

    ssh_config: Path | None = None
    netns: str | None = None


def run_playbooks(
    names: Sequence[str],
    inventory: Path,
    inputs: Mapping[str, Any],
    reach: Reach,
    *,
    check: bool,
    added: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Run playbooks against an inventory, and what is `added` to it; raises Unavailable when Ansible cannot run."""
    with tempfile.TemporaryDirectory(prefix="redoubt-run-") as scratch:
        record = Path(scratch) / "record.json"
        playbooks = [str(REPOSITORY / "playbooks" / f"{name}.yml") for name in names]
        mode = ["--check", "--diff"] if check else []
        (Path(scratch) / "added.json").write_text(json.dumps(added or {}))
        sources = ["--inventory", str(inventory), *(["--inventory", f"{scratch}/added.json"] if added else [])]
        command = [*_prefix(reach, record, Path(scratch)), *sources, *mode]
        done = subprocess.run(
            [*command, "--extra-vars", json.dumps(inputs), *playbooks],
            stdin=subprocess.DEVNULL,
            stdout=STANDARD_ERROR,
            check=False,
        )
        _hang_up(Path(scratch))
        if not record.is_file():
            raise Unavailable(
                f"Ansible ended with {done.returncode} before the first stage", remedy="see its words above"
            )
        found = RunRecord.model_validate_json(record.read_bytes())
    if done.returncode and not found.failures:
        raise Unavailable(f"Ansible ended with {done.returncode}", remedy="see its words above")
    return found


def failed_run(record: RunRecord, *, again: str) -> RedoubtError:
    """Return the error that says why a run failed and what to do."""
    first = record.failures[0]
    silent = [failure.host for failure in record.failures if failure.kind == "unreachable"]
    told = dict.fromkeys(f"{failure.host}: {failure.task}: {failure.cause}" for failure in record.failures)
    reasons = tuple(told) if len(told) > 1 else ()
    if silent:
        names = ", ".join(sorted(set(silent)))
        remedy = f"power on {names}, check cable and address in site.yml; then repeat: {again}"
        return Unavailable(f"{first.stage}: {names}: {first.cause}", remedy=remedy, code="node_silent", reasons=reasons)
    if first.host == "localhost":  # only the preflight of the inventory runs here
        fact, _, command = first.cause.partition(" Render it anew: ")
        return Refused(fact, remedy=f"{command}; then repeat: {again}", code="stale_inventory")
    detail = f"{first.stage} failed on {first.host}: {first.task}: {first.cause}"
    return Unavailable(detail, remedy=f"correct the cause, then repeat: {again}", code="stage_failed", reasons=reasons)


def _hang_up(scratch: Path) -> None:
    """End the shared connections now: a master that outlives the run would hold on to the nodes' network."""
    for socket in (path for path in scratch.iterdir() if path.is_socket()):
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "every-node"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _prefix(reach: Reach, record: Path, scratch: Path) -> list[str]:
    enter = ["nsenter", f"--net=/run/netns/{reach.netns}"] if reach.netns else []
    settings = {
        "ANSIBLE_CONFIG": REPOSITORY / "ansible.cfg",
        "ANSIBLE_STDOUT_CALLBACK": "redoubt",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": scratch,  # sites on one machine share addresses, so no socket may be shared
        "REDOUBT_RUN_RECORD": record,
        "LC_ALL": "C.UTF-8",
    }
    ssh = f"-F {reach.ssh_config} " if reach.ssh_config else ""
    settings["ANSIBLE_SSH_ARGS"] = f"{ssh}-o ControlMaster=auto -o ControlPersist=60s"
    words = [f"{name}={value}" for name, value in settings.items()]
    return [*enter, "env", *words, str(Path(sys.executable).parent / "ansible-playbook")]
