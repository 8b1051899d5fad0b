"""What slurmdbd answers (v0.0.42, over REST and from `--json`), reduced to what the scheduler port knows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any  # Slurm's answers are JSON; each field read is converted here

from controlplane.engines.scheduler import Account, Qos, UsedGpus
from controlplane.engines.slurm.v0_0_42 import read_number
from controlplane.kit.errors import Unavailable

OURS = "redoubt"  # the organization of accounts, the description of QOS and the comment of reservations that we made
ROOT = "root"
BUILT_IN = frozenset({"root", "normal"})  # Slurm's own account and QOS

Json = Mapping[str, Any]


def read_accounts(
    accounts: Iterable[Json], associations: Sequence[Json], *, overseer: str
) -> tuple[tuple[Account, ...], list[str]]:
    """Return our accounts, and others in words. The overseer runs nothing: taken from an account it would be no more.

    Raises Unavailable when Slurm shows the overseer a part only: it hides accounts from whoever has no rights to them.
    """
    if not any(a["account"] == ROOT and not a["user"] for a in associations):
        raise Unavailable(
            f"Slurm does not show its accounts to {overseer}",
            remedy=f"on the controller: sacctmgr add user {overseer} account=root adminlevel=administrator",
        )
    own = {str(a["account"]): a for a in associations if not a["user"] and not a["partition"]}
    users: dict[str, list[str]] = {}
    for association in associations:
        if association["user"] not in {"", overseer}:
            users.setdefault(str(association["account"]), []).append(str(association["user"]))
    ours, foreign = [], []
    for account in sorted(accounts, key=lambda account: str(account["name"])):
        name = str(account["name"])
        if name in BUILT_IN or name not in own:
            continue
        if account["organization"] == OURS:
            ours.append(_read_account(name, own[name], users.get(name, [])))
        else:
            parent = own[name]["parent_account"] or ROOT
            foreign.append(f"account {name}: of {account['organization'] or 'no organization'}, below {parent}")
    return tuple(ours), foreign


def read_qos(listed: Iterable[Json]) -> tuple[tuple[Qos, ...], list[str]]:
    """Return our classes of work, and others in words."""
    ours, foreign = [], []
    for qos in sorted(listed, key=lambda qos: str(qos["name"])):
        name = str(qos["name"])
        if name in BUILT_IN:
            continue
        if qos["description"] in {OURS, name}:  # the latter is what the site's role leaves, and Slurm's own default
            ours.append(_read_qos(name, qos))
        else:
            foreign.append(f"qos {name}: described as {qos['description']!r}, priority {read_number(qos['priority'])}")
    return tuple(ours), foreign


def read_used(jobs: Iterable[Json]) -> Iterator[UsedGpus]:
    """Yield every start of a job that had GPUs."""
    for job in jobs:
        kinds = {str(t["name"]): int(t["count"]) for t in job["tres"]["allocated"] if t["type"] == "gres"}
        count, started = kinds.get("gpu", 0), int(job["time"]["start"])
        if count < 1 or not started:
            continue
        task = job["array"]["task_id"]
        in_array = bool(job["array"]["job_id"]) and task.get("set")
        ended = 0 if "RUNNING" in job["state"]["current"] else int(job["time"]["end"])  # Slurm may say now
        yield UsedGpus(
            ref=f"{job['array']['job_id']}_{task['number']}" if in_array else str(job["job_id"]),
            name=f"{job['name']}.{task['number']}" if in_array else str(job["name"]),
            account=str(job["account"]),
            user=str(job["user"] or job["association"]["user"]),
            partition=str(job["partition"]),
            gpu_type=next((name.removeprefix("gpu:") for name in kinds if name.startswith("gpu:")), ""),
            gpus=count,
            node=str(job["nodes"]),
            started_at=datetime.fromtimestamp(started, UTC),
            ended_at=datetime.fromtimestamp(ended, UTC) if ended else None,
            state="+".join(word.lower() for word in job["state"]["current"]),
        )


def _read_account(name: str, association: Json, users: list[str]) -> Account:
    parent = str(association["parent_account"])
    return Account(
        name,
        "" if parent == ROOT else parent,
        users=tuple(sorted(users)),
        gpus=_read_limits(association["max"]["tres"]["total"]),
        weight=int(association["shares_raw"]),
    )


def _read_qos(name: str, qos: Json) -> Qos:
    factor = qos["usage_factor"]
    return Qos(
        name,
        read_number(qos["priority"]),
        preempts=tuple(sorted(str(word) for word in qos["preempt"]["list"])),
        grace_s=int(qos["limits"]["grace_time"]),
        requeues="REQUEUE" in qos["preempt"]["mode"],
        gpus=_read_limits(qos["limits"]["max"]["tres"]["total"]),
        usage_permille=round(1000 * float(factor["number"])) if factor.get("set") else 1000,
    )


def _read_limits(total: Iterable[Json]) -> tuple[tuple[str, int], ...]:
    named = [(str(t["name"]), int(t["count"])) for t in total if t["type"] == "gres"]
    return tuple(sorted((name.removeprefix("gpu:"), count) for name, count in named if name.startswith("gpu:")))
