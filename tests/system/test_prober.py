"""The prober in real networks: what is blocked is seen as blocked, every hole is seen, and blindness is never green."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from controlplane.cli import port_scan
from controlplane.contracts.proof import NODE_DOMAIN, Signed
from controlplane.domains.health.rules import judge_node, tally
from controlplane.kit.certificates import check_certificate, check_signature, decode_exactly, load_authority
from tests.support.proofs import make_signer
from tests.support.two_networks import PROBER, TwoNetworks, run, two_networks

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNetworks]:
    with two_networks(f"probed-{os.getpid()}", tmp_path_factory.mktemp("prober")) as made:
        yield made


@pytest.fixture
def networks(shared: TwoNetworks) -> TwoNetworks:
    """The two networks with a closed boundary, whatever the test before did."""
    run("ip", "-n", shared.inside, "link", "set", "lo", "up")
    run("ip", "netns", "exec", shared.outside, "nft", "flush", "ruleset")
    shared.close()
    return shared


def test_behind_a_closed_boundary_every_attempt_is_blocked_and_counted(networks: TwoNetworks):
    part = networks.prove()

    assert judge_node(part).verdict == "isolated", judge_node(part).reasons
    assert {context.name for context in part.contexts} >= {"root", "user nobody"}
    assert all(tally(context)[0] > 50 for context in part.contexts)
    assert part.witness is not None
    assert part.witness.left == 0
    assert part.witness.tried > 100


def test_without_a_boundary_everything_is_seen_to_leave(networks: TwoNetworks):
    run("ip", "netns", "exec", networks.inside, "nft", "delete", "table", "inet", "redoubt_boundary")

    part = networks.prove()

    assert judge_node(part).verdict == "leaking"
    told = {(anomaly.target, anomaly.outcome) for context in part.contexts for anomaly in context.anomalies}
    assert ("tcp 192.0.2.1 443", "answered") in told
    assert ("tcp 192.0.2.1 22", "answered") in told  # refused there, so it got there
    assert ("udp 192.0.2.1 53", "sent") in told
    assert ("udp 10.99.0.254 53", "answered") in told
    assert any(target.startswith("icmp 192.0.2.1") for target, _ in told)
    assert part.witness is not None
    assert part.witness.left > 20


@pytest.mark.parametrize(
    ("hole", "context", "target"),
    [
        ("meta skuid 65534 udp dport 53 accept", "user nobody", "udp 192.0.2.1 53"),
        ("meta skuid 65534 tcp dport 443 accept", "user nobody", "tcp 192.0.2.1 443"),
        ("meta skuid 0 ip daddr 10.99.0.254 icmp type echo-request accept", "root", "icmp 10.99.0.254"),
        ("meta skuid 0 ip protocol 41 accept", "root", "protocol 41 192.0.2.1"),
        ("meta skuid 0 ip6 daddr 2001:db8::1 accept", "root", "udp 2001:db8::1 53"),
        ("meta skuid 65534 ip daddr 169.254.169.254 accept", "user nobody", "tcp 169.254.169.254 80"),
    ],
)
def test_a_hole_for_one_user_is_found_and_named(networks: TwoNetworks, hole: str, context: str, target: str):
    networks.close(hole)

    part = networks.prove()

    leaking = {one.name for one in part.contexts if any(a.outcome in ("sent", "answered") for a in one.anomalies)}
    assert leaking == {context}
    assert any(target in reason for reason in judge_node(part).reasons), judge_node(part).reasons


def test_what_leaves_without_an_answer_has_left_all_the_same(networks: TwoNetworks):
    silent = "table inet mute { chain input { type filter hook input priority 0; policy drop; }; }"
    run("ip", "netns", "exec", networks.outside, "nft", silent)
    networks.close("tcp dport 853 accept")  # a connection that nobody answers looks like one that was dropped

    part = networks.prove()

    judged = judge_node(part)
    assert not any(context.anomalies for context in part.contexts)
    assert judged.verdict == "leaking"
    assert "passed every filter" in judged.reasons[0]


def test_a_prober_that_reaches_nothing_at_all_proves_nothing(networks: TwoNetworks):
    run("ip", "-n", networks.inside, "link", "set", "lo", "down")

    judged = judge_node(networks.prove())

    assert judged.verdict == "inconclusive"
    assert any("does not reach loopback itself" in reason for reason in judged.reasons)


def test_a_user_that_is_not_there_is_missed(networks: TwoNetworks):
    judged = judge_node(networks.prove(accounts=["redoubt-nobody-has-this-name"]))

    assert judged.verdict == "inconclusive"
    assert "nothing was tried as user redoubt-nobody-has-this-name" in judged.reasons[0]


def test_a_node_signs_what_it_saw_and_keeps_it(networks: TwoNetworks, tmp_path: Path):
    signer = make_signer(tmp_path)
    for kind in ("key", "crt"):
        (networks.folder / f"node.{kind}").write_bytes((tmp_path / f"gpu1.{kind}").read_bytes())

    part = networks.prove()

    kept = Signed.model_validate_json((networks.folder / "last.json").read_bytes())
    authority = load_authority(signer.ca.path.read_bytes())
    certificate = check_certificate(decode_exactly(kept.certificate), authority, datetime.now(UTC))
    check_signature(certificate, NODE_DOMAIN + kept.payload.encode(), decode_exactly(kept.signature))
    assert part.run == "run_1"


def test_the_whole_is_kept_where_it_is_signed_and_nowhere_else(tmp_path: Path):
    make_signer(tmp_path)
    last, keyless = tmp_path / "last.json", tmp_path / "keyless"
    asked = json.dumps({"format": 1, "site": "practice", "run": "r", "nodes": {}, "verdict": "leaking"})

    run(sys.executable, str(PROBER), "sign", "--keys", str(keyless), "--last", str(last), stdin=asked)
    unsigned = (tmp_path / "site.json").exists()
    said = run(sys.executable, str(PROBER), "sign", "--keys", str(tmp_path), "--last", str(last), stdin=asked)

    kept = tmp_path / "site.json"
    assert not unsigned
    assert kept.read_text() == said.strip()
    assert kept.stat().st_mode & 0o777 == 0o644
    assert not last.exists()


def test_its_own_counters_are_gone_afterwards(networks: TwoNetworks):
    networks.prove()

    assert "redoubt_proof" not in run("ip", "netns", "exec", networks.inside, "nft", "list", "tables")


def test_from_outside_only_what_the_boundary_lets_in_answers(networks: TwoNetworks):
    networks.close(inbound="tcp dport { 7001, 7002 } accept")
    listen = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 7001)); print('up', flush=True); sys.stdin.read()"
    )
    words = ["ip", "netns", "exec", networks.inside, sys.executable, "-c", listen]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        found = scan(networks, tcp=[22, 7001, 7002, 7003], udp=[53])
        server.communicate("")

    assert found["control"] is True
    assert [(one["port"], one["how"]) for one in found["answered"]] == [(7001, "connected"), (7002, "ECONNREFUSED")]


def test_a_scanner_without_a_network_says_so(networks: TwoNetworks):
    run("ip", "-n", networks.outside, "link", "set", "lo", "down")
    try:
        found = scan(networks, tcp=[22], udp=[])
    finally:
        run("ip", "-n", networks.outside, "link", "set", "lo", "up")

    assert found == {"control": False, "answered": []}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("etc/environment", "http_proxy=http://10.0.0.9:3128\n", True),
        ("etc/environment", "# http_proxy=http://10.0.0.9:3128\n", False),
        ("etc/profile.d/corporate.sh", "export HTTPS_PROXY=10.0.0.9:8080\n", True),
        ("etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "http://10.0.0.9:3142/";\n', True),
        ("etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "DIRECT";\n', False),
        ("etc/pip.conf", "[global]\nproxy = http://10.0.0.9:3128\n", True),
        ("root/.config/pip/pip.conf", "[global]\nindex-url = https://ctl1:8445/wheels/simple\n", False),
        ("etc/systemd/system.conf", "DefaultEnvironment=ALL_PROXY=socks5://10.0.0.9\n", True),
    ],
)
def test_a_proxy_is_found_wherever_it_is_set(tmp_path: Path, path: str, text: str, found: bool):
    place = tmp_path / path
    place.parent.mkdir(parents=True)
    place.write_text(text)

    traces = dict(kernel().proxy_traces(tmp_path))

    assert traces[f"file /{path}"] is found


def scan(networks: TwoNetworks, *, tcp: list[int], udp: list[int]) -> dict:
    plan = {"nodes": [{"name": "gpu1", "address": "10.99.0.1", "tcp": tcp, "udp": udp}], "wait_s": 0.5}
    script = Path(port_scan.__file__).read_text() + f"\nscan({json.dumps(plan)!r})\n"
    return json.loads(run("ip", "netns", "exec", networks.outside, "python3", "-", stdin=script))


def kernel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel", PROBER.with_name("kernel.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
