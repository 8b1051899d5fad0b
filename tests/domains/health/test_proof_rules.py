"""What counts as isolated, and that doubt never does."""

from datetime import UTC, datetime, timedelta
from typing import Any  # evidence is changed key by key

import pytest

from controlplane.contracts.proof import NodePart, SiteProof
from controlplane.domains.health.rules import STALE_AFTER, faults_of, faults_of_site, judge_node, judge_site, tally
from controlplane.domains.health.types import IncidentKind, Judgement, NewestProof
from tests.support.proofs import END, RUN, make_context, make_part, make_vantage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEAK = {"kind": "udp", "target": "udp 192.0.2.1 53", "outcome": "sent", "detail": ""}


def judge(**more: Any) -> Judgement:
    return judge_node(NodePart.model_validate(make_part(**more), strict=False))


def judge_whole(*parts: dict[str, object], **more: object) -> Judgement:
    read = {str(part["node"]): NodePart.model_validate(part, strict=False) for part in parts}
    whole = {
        "format": 1, "site": "practice", "run": RUN, "started_at": END, "ended_at": END, "certificate_sha256": "",
        "spec_sha256": "", "bundle_sha256": "", "nodes": {}, "absent": {}, "outside_in": [make_vantage()],
        "declared": [{"name": name, "zone": "north", "address": ""} for name in ("ctl1", "gpu1")], "trap": None,
        "verdict": "isolated", "reasons": (), "not_checked": (), **more,
    }  # fmt: skip
    return judge_site(SiteProof.model_validate(whole, strict=False), read)


def test_a_node_where_everything_was_tried_and_counted_is_isolated():
    assert judge() == Judgement("isolated")


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({"policies": {"input": "drop", "forward": "drop"}}, "leaking", "no boundary for output"),
        ({"policies": {}, "drops_before": None, "drops_after": None}, "leaking", "no boundary for input, output"),
        ({"witness": {"tried": 96, "left": 1}}, "leaking", "1 packets passed every filter"),
        ({"contexts": [make_context(anomalies=[LEAK])]}, "leaking", "gpu1, root: udp 192.0.2.1 53 was sent"),
        ({"contexts": [make_context(attempts=[{"kind": "tcp", "outcomes": {"answered": 2}}])]}, "leaking", "2 leaks"),
        ({"witness": None}, "inconclusive", "counters could not be read"),
        ({"drops_after": {"dropped_out": 105}}, "inconclusive", "counted 95 drops for 96 packets"),
        ({"drops_after": {"dropped_in": 500, "dropped_out": 10}}, "inconclusive", "counted 0 drops"),
        ({"witness": {"tried": 95, "left": 0}}, "inconclusive", "saw 95 packets for 96"),
        ({"expected": ["nobody", "postgres"]}, "inconclusive", "nothing was tried as user postgres"),
        ({"contexts": [make_context("user nobody", 65534)]}, "inconclusive", "nothing was tried as root"),
        ({"contexts": [make_context(), make_context("user nobody")]}, "inconclusive", "tried as slurm job"),
        ({"contexts": [make_context(control={"tcp": True, "udp": False})]}, "inconclusive", "loopback itself (udp)"),
        ({"contexts": [make_context(control={})]}, "inconclusive", "not tried"),
        ({"contexts": [make_context(attempts=[])]}, "inconclusive", "not tried: dns"),
        ({"contexts": [make_context(error="it did not end in time")]}, "inconclusive", "did not end in time"),
        ({"contexts": [make_context(anomalies=[{**LEAK, "outcome": "failed"}])]}, "inconclusive", "53 failed"),
    ],
)  # fmt: skip
def test_every_gap_and_every_leak_is_told(change: dict[str, object], verdict: str, says: str):
    found = judge(**change)

    assert found.verdict == verdict
    assert any(says in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({}, "isolated", ""),
        ({"absent": {"gpu1": "no answer over SSH"}, "drop": "gpu1"}, "inconclusive", "gpu1 gave no proof: no answer"),
        ({"outside_in": []}, "inconclusive", "nobody knocked"),
        ({"outside_in": [make_vantage(control=False)]}, "inconclusive", "its silence proves nothing"),
        ({"outside_in": [make_vantage(error="no namespace")]}, "inconclusive", "no namespace"),
        ({"outside_in": [make_vantage(allowed=[])]}, "leaking", "ctl1 answers tcp 22 to the controller (connected)"),
        ({"trap": {"recorder": "r", "heard_canary": False}}, "inconclusive", "did not hear the canary"),
        ({"trap": {"recorder": "r", "heard_canary": True}}, "isolated", ""),
        (
            {"trap": {"recorder": "r", "heard_canary": True, "packets": [
                {"at": "", "source": "10.77.0.11", "destination": "192.0.2.1", "protocol": "udp", "port": 53}]}},
            "leaking", "the trap heard 10.77.0.11 send udp to 192.0.2.1 53",
        ),
    ],
)  # fmt: skip
def test_a_site_is_as_good_as_its_worst_evidence(change: dict[str, object], verdict: str, says: str):
    gone = change.pop("drop", "")
    parts = [make_part(node) for node in ("ctl1", "gpu1") if node != gone]

    found = judge_whole(*parts, **change)

    assert found.verdict == verdict
    assert says == "" or any(says in reason for reason in found.reasons), found.reasons


def test_a_leak_is_told_before_doubts():
    found = judge(witness={"tried": 1, "left": 1})

    assert found.verdict == "leaking"
    assert "passed every filter" in found.reasons[0]
    assert len(found.reasons) == 2


def test_a_context_is_counted_by_what_happened():
    context = NodePart.model_validate(make_part(), strict=False).contexts[0]

    assert tally(context) == (36, 36, 0)


FRESH, OLD = NOW - timedelta(minutes=1), NOW - STALE_AFTER - timedelta(seconds=1)
LEAKING, UNPROVEN, STALE = IncidentKind.LEAK, IncidentKind.UNPROVEN, IncidentKind.STALE


@pytest.mark.parametrize(
    ("verdict", "at", "still_open", "kinds"),
    [
        ("isolated", FRESH, set(), set()),
        ("isolated", FRESH, {LEAKING, UNPROVEN, STALE}, set()),
        ("isolated", OLD, set(), {STALE}),
        ("isolated", OLD, {LEAKING}, {STALE, LEAKING}),
        ("inconclusive", FRESH, set(), {UNPROVEN}),
        ("inconclusive", FRESH, {LEAKING}, {UNPROVEN, LEAKING}),
        ("leaking", FRESH, {UNPROVEN}, {LEAKING}),
        ("leaking", OLD, set(), {LEAKING, STALE}),
        (None, FRESH, set(), set()),
        (None, OLD, set(), {STALE}),
    ],
)
def test_only_a_fresh_proof_of_isolation_ends_what_is_open(verdict, at, still_open, kinds):
    newest = NewestProof("", verdict, ("why",), at) if verdict else None

    found = faults_of("gpu1", newest, min(at, NOW), still_open, NOW)

    assert {fault.kind for fault in found} == kinds


@pytest.mark.parametrize(
    ("verdict", "still_open", "kinds"),
    [
        ("isolated", {LEAKING, UNPROVEN}, set()),
        ("inconclusive", set(), {UNPROVEN}),
        ("inconclusive", {LEAKING}, {UNPROVEN, LEAKING}),
        ("leaking", {UNPROVEN}, {LEAKING}),
        (None, set(), set()),
        (None, {LEAKING, UNPROVEN}, {LEAKING, UNPROVEN}),
    ],
)
def test_a_whole_proof_is_never_stale_and_only_isolation_ends_what_is_open(verdict, still_open, kinds):
    newest = NewestProof("", verdict, ("why",), OLD - timedelta(days=30)) if verdict else None

    found = faults_of_site(newest, still_open)

    assert {(fault.kind, fault.subject) for fault in found} == {(kind, "site") for kind in kinds}
