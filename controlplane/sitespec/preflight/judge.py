"""Preflight's one door: facts in, verdicts out."""

from collections.abc import Mapping
from typing import Any  # facts are JSON

from controlplane.sitespec.preflight import board, surroundings, system
from controlplane.sitespec.preflight.check import CONTROL, Facts, Verdict, View, judge_node, judge_site, skip
from controlplane.sitespec.preflight.site import CONTROL_CHECKS, SITE_CHECKS
from controlplane.sitespec.spec import Node, Site

NODE_CHECKS = (*system.CHECKS, *board.CHECKS, *surroundings.CHECKS)
REACHABLE = "node.reachable"
IDS = frozenset({REACHABLE, *(check.id for check in (*NODE_CHECKS, *SITE_CHECKS, *CONTROL_CHECKS))})


def judge(
    site: Site,
    *,
    nodes: Mapping[str, Mapping[str, Any]],
    control: Mapping[str, Any],
    bundle: Mapping[str, Any],
    now: float,
    skipped: Mapping[str, str],
) -> tuple[Verdict, ...]:
    """Return every verdict. `nodes` are what the nodes answered by name; a node that is silent has `silent` alone."""
    found = list(judge_node(CONTROL_CHECKS, _control_view(site, control, bundle, now)))
    views = []
    for node in site.nodes:
        answer = nodes.get(node.name, {"unasked": "it is not in the inventory"})
        found.append(_reached(node, answer))
        if not {"silent", "unasked"} & set(answer):
            views.append(View(site, node, Facts(answer), Facts(bundle), now))
    for view in views:
        found += judge_node(NODE_CHECKS, view)
    found += judge_site(SITE_CHECKS, tuple(views))
    return skip(tuple(found), skipped)


def _control_view(site: Site, control: Mapping[str, Any], bundle: Mapping[str, Any], now: float) -> View:
    host = Node.model_construct(
        name=CONTROL, address=site.network.controller, zone="", gpus=(), cpus=None, memory_mb=None
    )
    return View(site, host, Facts(control), Facts(bundle), now)


def _reached(node: Node, answer: Mapping[str, Any]) -> Verdict:
    remedy = "power it on, check cable and address in site.yml"
    limit = "answers over SSH"
    if "unasked" in answer:
        return Verdict(REACHABLE, "block", node.name, "unknown", f"not asked: {answer['unasked']}", limit, remedy)
    if "silent" in answer:
        return Verdict(REACHABLE, "block", node.name, "failed", str(answer["silent"]), limit, remedy)
    return Verdict(REACHABLE, "block", node.name, "ok", limit, limit, remedy)
