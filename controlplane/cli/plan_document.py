"""A plan: what a run would do, what it rests on, and one digest over both."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any  # what a node says of itself is free-form

from pydantic import BaseModel

from controlplane.cli.run_record import Change, Restart, RunRecord
from controlplane.cli.stages import Stage
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.sitespec.spec import Site

# Seconds of a stage that has work to do, from a first install of the practice site on two cores. Used until a run is
# on record here.
SHIPPED_S = {
    "Practice": 5, "Boundary": 10, "Authority": 5, "Depot": 15, "Base": 40, "Time": 12, "Database": 15, "GPUs": 2,
    "Scheduler": 30, "Models": 10, "Control plane": 10, "Gateway": 5, "Agents": 5,
}  # fmt: skip
UNKNOWN_STAGE_S = 30
START_S = 10
# What the controller hands to slurmd. A change of slurm.conf itself reaches running jobs only through these.
HANDED = ("/etc/slurm/cgroup.conf", "/etc/slurm/gres.conf")
WORDS = {"system": "operating system", "kernel": "kernel", "boot": "boot", "packages": "installed packages"}


class GpuDrain(BaseModel):
    """GPUs whose work has to end first, and why. `jobs` are the Slurm jobs that ran there when the plan was made."""

    node: str
    gpus: int
    jobs: tuple[str, ...]
    why: tuple[str, ...]


class Plan(BaseModel):
    """`inputs` are digests, `facts` what each node was, `states` the files that would be replaced, as they were."""

    format: int = 1
    site: str
    made_at: datetime
    choice: tuple[str, ...]
    inputs: dict[str, str]
    facts: dict[str, dict[str, Any]]
    states: dict[str, dict[str, str]]
    changes: tuple[Change, ...]
    restarts: tuple[Restart, ...]
    drains: tuple[GpuDrain, ...]
    minutes: float
    minutes_from: str
    digest: str = ""


def digest_of(plan: Plan) -> str:
    """Return the digest over everything that decides the outcome; when it was made, jobs and estimates do not."""
    deciding = plan.model_dump(
        mode="json", include={"format", "site", "choice", "inputs", "facts", "states", "changes"}
    )
    return sha256_hex(canonical_json(deciding))


def make_plan(
    site: Site,
    record: RunRecord,
    inputs: Mapping[str, str],
    choice: Iterable[str],
    took: Mapping[str, float],
    at: datetime,
) -> Plan:
    """Return the plan that a run in check mode shows; `took` are recorded seconds by stage."""
    minutes, source = estimate({change.stage for change in record.changes}, took)
    plan = Plan(
        site=site.name,
        made_at=at,
        choice=tuple(choice),
        inputs=dict(inputs),
        facts={host: lasting(facts) for host, facts in record.facts.items()},
        states={host: files for host, files in record.states.items() if files},
        changes=tuple(record.changes),
        restarts=tuple(restarts_of(record.restarts)),
        drains=tuple(gpu_drains(site, record)),
        minutes=minutes,
        minutes_from=source,
    )
    return plan.model_copy(update={"digest": digest_of(plan)})


def lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a node said of itself without what moves by itself: running jobs, and the age of stamps."""
    stages = {name: {"inputs": one["inputs"], "moved": one["moved"]} for name, one in facts["stages"].items()}
    kept = {name: value for name, value in facts.items() if name not in ("jobs", "watched")}
    return {**kept, "stages": stages}


def restarts_of(found: Iterable[Restart]) -> Iterator[Restart]:
    """Yield each restart once: a unit that a run both restarts and reloads is restarted."""
    seen: set[tuple[str, str]] = set()
    for one in sorted(found, key=lambda one: one.unit.endswith(" (reload)")):
        key = (one.host, one.unit.removesuffix(" (reload)"))
        if key not in seen:
            seen.add(key)
            yield one


def gpu_drains(site: Site, record: RunRecord) -> Iterator[GpuDrain]:
    """Yield every node with GPUs in service where something that their work stands on would change."""
    for node in site.compute:
        facts = record.facts.get(node.name, {})
        in_service = bool(facts.get("jobs")) or "slurm" in facts.get("stages", {})
        why = tuple(dict.fromkeys(drain_reasons(node.name, record)))
        if why and in_service:
            yield GpuDrain(
                node=node.name, gpus=sum(gpus.count for gpus in node.gpus), jobs=tuple(facts.get("jobs", ())), why=why
            )


def drain_reasons(host: str, record: RunRecord) -> Iterator[str]:
    """Yield why work on a node's GPUs has to end; what is not known to be harmless counts."""
    yield from (drain.why for drain in record.drains if drain.host == host)
    yield from (f"GPUs: {change.task}" for change in record.changes if change.host == host and change.stage == "GPUs")
    handed = [path for files in record.states.values() for path in files if path in HANDED]
    yield from (f"the scheduler hands every node another {path}" for path in sorted(set(handed)))
    settings = [path for path in record.states.get(host, {}) if "slurm" in path]
    for restart in record.restarts:
        if restart.host == host and restart.unit == "slurmd.service" and settings:
            yield f"slurmd restarts with other settings ({', '.join(sorted(settings))}), which jobs may feel"
        if restart.host == host and restart.unit.startswith("nvidia"):
            yield f"{restart.unit} restarts"


def estimate(changing: Iterable[str], took: Mapping[str, float]) -> tuple[float, str]:
    """Return (minutes, where they are from) for the stages that have work to do."""
    stages = sorted(changing)
    known = [stage for stage in stages if stage in took]
    seconds = sum(took.get(stage, SHIPPED_S.get(stage, UNKNOWN_STAGE_S)) for stage in stages) + START_S
    source = "earlier runs of this site" if len(known) == len(stages) else "the shipped table, for want of earlier runs"
    if known and len(known) < len(stages):
        source = "earlier runs of this site and the shipped table"
    return round(seconds / 60, 1), source


def moved(plan: Plan, inputs: Mapping[str, str], facts: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Name everything that is not as it was when the plan was made."""
    found = [
        f"{name} changed"
        for name in sorted(plan.inputs.keys() | inputs.keys())
        if plan.inputs.get(name) != inputs.get(name)
    ]
    for host in sorted(plan.facts.keys() | facts.keys()):
        if host not in facts or host not in plan.facts:
            found.append(f"{host} {'does not answer' if host not in facts else 'was not there'}")
        else:
            found += [f"{host}: {what}" for what in _moved_on(plan, host, facts[host])]
    return tuple(found)


def _moved_on(plan: Plan, host: str, facts: Mapping[str, Any]) -> Iterator[str]:
    then, now = plan.facts[host], lasting(facts)
    for name, word in WORDS.items():
        if then.get(name) != now.get(name):
            yield (
                f"{word} changed"
                if name in ("packages", "boot")
                else f"{word} was {then.get(name)}, is {now.get(name)}"
            )
    for stage in sorted(then["stages"].keys() | now["stages"].keys()):
        before, after = then["stages"].get(stage), now["stages"].get(stage)
        if before != after:
            reasons = [one for one in (after or {}).get("moved", []) if one not in (before or {}).get("moved", [])]
            yield f"stage {stage}: {', '.join(reasons) or 'it was run, or begun, since'}"
    if then.get("shared") != now.get("shared"):
        yield "a key that nodes share changed"
    for path, digest in plan.states.get(host, {}).items():
        if facts.get("watched", {}).get(path) != digest:
            yield f"{path} changed"


def stages_to_visit(plan: Plan, stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the stages in which the plan saw work, whatever their stamps say."""
    titles = {change.stage for change in plan.changes}
    return tuple(stage.name for stage in stages if stage.title in titles)
