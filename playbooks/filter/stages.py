"""Which stages a node is due for, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Json = dict[str, Any]  # variables, and the mapping of all of them, have no narrower type

PLAYBOOKS = Path(__file__).parents[1]
GOOD_FOR_S = 7 * 86400  # an older stamp proves little: certificates end, and hands change things


def due_stages(found: Json, wanted: Json | None, hosts: Any, forced: list[str]) -> list[Json]:
    """Return what a node is due for as {stage, why}, in the order of the stages.

    `found` is what node_facts read there, `wanted` what the site asks of each stage (nothing: every stage is due),
    `hosts` the variables of every node by its name.
    """
    if wanted is None:
        return [{"stage": path.stem, "why": "run by hand"} for path in sorted(PLAYBOOKS.glob("*.yml"))]
    due: dict[str, str] = {}
    for stage, asked in wanted.items():
        why = "asked for" if stage in forced else reason(stage, asked, found, hosts)
        why = why or next((f"{other} runs" for other in asked["after"] if other in due), "")
        if why:
            due[stage] = why
    return [{"stage": stage, "why": why} for stage, why in due.items()]


def reason(stage: str, asked: Json, found: Json, hosts: Any) -> str:
    """Say why a stage must run on a node, or nothing."""
    stamp = found["stages"].get(stage)
    if stamp is None:
        return "it was not finished here"
    if stamp["inputs"] != asked["inputs"]:
        return "its inputs changed"
    if stamp["moved"]:
        return str(stamp["moved"][0])
    if stamp["age_s"] > GOOD_FOR_S:
        return "its stamp is old"
    return next(
        (f"{copy['here']} differs from {copy['on']}" for copy in asked["copies"] if differs(copy, found, hosts)), ""
    )


def differs(copy: Json, found: Json, hosts: Any) -> bool:
    """Tell whether a file that a node copied is no longer that of the node it came from."""
    facts = hosts[copy["on"]].get("ansible_facts", {}).get("node", {}) if copy["on"] in hosts else {}
    source = facts.get("shared", {}).get(copy["there"])
    return source is None or found["shared"].get(copy["here"]) != source


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> Json:
        """Return the filters by name."""
        return {"due_stages": due_stages}
