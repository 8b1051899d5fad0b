"""What may answer whom, by the spec alone."""

from pathlib import Path

import pytest

from controlplane.cli.proof_run import allowed_from
from controlplane.contracts.proof import Answer, Vantage
from controlplane.domains.health.rules import strangers
from controlplane.sitespec.text import parse_site

SITE = parse_site(Path("inventory/practice/site.yml").read_text())


def test_the_controller_may_open_ssh_everywhere_and_the_two_doors_for_people():
    allowed = allowed_from(SITE, "10.77.0.1")

    assert {(ports.node, ports.first) for ports in allowed if ports.first == ports.last} == {
        ("ctl1", 22), ("gpu1", 22), ("gpu2", 22), ("store1", 22), ("ctl1", 8443), ("ctl1", 9443),
    }  # fmt: skip


def test_a_stranger_may_open_nothing():
    assert allowed_from(SITE, "10.77.0.254") == ()


@pytest.mark.parametrize(
    ("node", "protocol", "port", "strange"),
    [
        ("ctl1", "tcp", 22, False),
        ("ctl1", "tcp", 9443, False),
        ("store1", "tcp", 9443, True),
        ("store1", "tcp", 5432, True),
        ("ctl1", "udp", 123, True),
        ("ctl1", "udp", 22, True),
    ],
)
def test_only_what_is_declared_for_that_node_and_protocol_may_answer(
    node: str, protocol: str, port: int, strange: bool
):
    answer = Answer.model_validate({"node": node, "protocol": protocol, "port": port, "how": "connected"})
    allowed = allowed_from(SITE, "10.77.0.1")

    found = strangers(
        Vantage(name="controller", address="10.77.0.1", control=True, asked={}, allowed=allowed, answered=(answer,))
    )

    assert bool(found) is strange
