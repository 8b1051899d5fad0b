"""The rules of a node on real packets: who may open what, what is dropped, and how long a connection lives."""

import json
import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from lab import router
from lab.record import Node
from lab.shell import wait_until
from lab.site import Site

from controlplane.sitespec.text import parse_site
from tests.support import boundary

pytestmark = pytest.mark.system

SPEC = parse_site(Path("inventory/practice/site.yml").read_text())
NODE, CTL = "gpu1", "ctl1"
INPUTS = boundary.inputs_of(SPEC, NODE)
ACTIVE = "/etc/redoubt/boundary/active.nft"
UNIT = "/etc/systemd/system/redoubt-boundary.service"
AGENT, SERVE, NOBODY = 2002, 2001, 65534
DOORS = """
import selectors, socket
every = selectors.DefaultSelector()
for port in (22, 53, 5555, 6817, 8443, 8444, 8445, 20000):
    try:
        every.register(socket.create_server(("", port)), selectors.EVENT_READ, True)
    except OSError:
        pass
while True:
    for key, _ in every.select():
        if key.data:
            every.register(key.fileobj.accept()[0], selectors.EVENT_READ)
            continue
        words = key.fileobj.recv(100)
        key.fileobj.sendall(words) if words else every.unregister(key.fileobj)
"""
OPEN_DOORS = "systemd-run --quiet --unit=doors python3 /root/doors.py; sleep 0.3"
OPEN = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1); print('open')"
# Says every line that it gets back through one connection, until nothing comes back.
TALK = """
import socket, time
one = socket.create_connection(("10.77.0.10", 8444), 2)
one.settimeout(2)
while True:
    one.sendall(b"still here")
    print(one.recv(100).decode(), flush=True)
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def site():
    """Two nodes: gpu1 stands behind its rules, ctl1 answers at every port that the rules speak of."""
    made = Site(f"rules-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
    made.down()
    made.up([Node(CTL, IPv4Address("10.77.0.10")), Node(NODE, IPv4Address("10.77.0.11"))])
    for node in (CTL, NODE):
        made.ssh(node, "cat > /root/doors.py", stdin=DOORS)
        made.ssh(node, OPEN_DOORS)
    made.ssh(NODE, f"mkdir -p $(dirname {ACTIVE})")
    made.ssh(NODE, f"cat > {UNIT} && systemctl enable --quiet redoubt-boundary.service", stdin=boundary.unit(INPUTS))
    yield made
    made.down()


@pytest.fixture
def node(site):
    """gpu1 under the rules of the site, also after a test that rebooted it; what came out is forgotten."""
    site.ssh(NODE, f"ip route replace default via 10.77.0.254; systemctl -q is-active doors || {OPEN_DOORS}")
    use(site, INPUTS)
    router.clear(site.name)
    return site


def use(site, inputs):
    site.ssh(NODE, f"cat > {ACTIVE} && nft -f {ACTIVE}", stdin=boundary.rules(inputs))


def opens(site, uid, port, address="10.77.0.10"):
    words = ("setpriv", f"--reuid={uid}", "--clear-groups", "python3", "-c", OPEN, address, str(port))
    return site.ssh(NODE, *words, check=False).stdout == "open\n"


def counted(site):
    found = json.loads(site.ssh(NODE, "nft -j list counters table inet redoubt_boundary").stdout)["nftables"]
    return {item["counter"]["name"]: item["counter"]["packets"] for item in found if "counter" in item}


@pytest.mark.parametrize(
    ("uid", "port", "may"),
    [
        (AGENT, 8444, True),
        (SERVE, 8444, False),
        (0, 8444, False),
        (SERVE, 8443, True),
        (AGENT, 8443, True),  # to join, where no certificate is asked for
        (0, 8443, False),
        (0, 8445, True),
        (42, 8445, True),
        (SERVE, 8445, False),
        (0, 6817, True),
        (SERVE, 6817, False),
        (NOBODY, 8444, False),
        (0, 22, False),
        (0, 5555, False),
    ],
)
def test_a_port_opens_for_its_user_and_for_no_other(node, uid, port, may):
    assert opens(node, uid, port) is may


def test_the_rule_that_let_a_connection_in_counts_it(node):
    opens(node, AGENT, 8444)

    assert counted(node)["out_agents_api"] == 1
    assert counted(node)["dropped_out_wrong_user"] == 0


@pytest.mark.parametrize(
    ("counter", "command"),
    [
        ("dropped_out_wrong_user", "setpriv --reuid=2001 --clear-groups bash -c 'echo > /dev/tcp/10.77.0.10/8444'"),
        ("dropped_out", "bash -c 'echo > /dev/tcp/203.0.113.1/443'"),
        ("dropped_out", "bash -c 'echo > /dev/udp/203.0.113.1/4444'"),
        ("dropped_out", "ping -c1 -W1 203.0.113.1"),
        ("dropped_out", "ping -c1 -W1 10.77.0.254"),
        ("dropped_out_dns", "bash -c 'echo > /dev/udp/9.9.9.9/53'"),
        ("dropped_out_dns", "bash -c 'echo > /dev/udp/10.77.0.10/53'"),
        ("dropped_out_dns", "bash -c 'echo > /dev/tcp/10.77.0.254/53'"),
        ("dropped_out_ntp", "bash -c 'echo > /dev/udp/203.0.113.1/123'"),
        ("dropped_out_metadata", "bash -c 'echo > /dev/tcp/169.254.169.254/80'"),
        ("dropped_out_multicast", "bash -c 'echo > /dev/udp/224.0.0.251/5353'"),
        ("dropped_out_ip6", "bash -c 'echo > /dev/udp/2001:db8::1/53'"),
    ],
)
def test_what_wants_out_is_dropped_counted_by_its_reason_and_never_seen_outside(node, counter, command):
    node.ssh(NODE, "sysctl -qw net.ipv6.conf.host0.disable_ipv6=0; ip -6 addr replace fd77::11/64 dev host0 nodad")
    node.ssh(NODE, "ip -6 route replace default via fd77::254; sleep 0.1")
    before = counted(node)[counter]

    node.ssh(NODE, f"timeout 1 {command} 2>&1; true")

    assert counted(node)[counter] > before
    assert router.records(node.name) == []


def test_only_the_declared_ports_answer_from_the_declared_addresses(node):
    before = counted(node)["dropped_in"]

    def reached(port):
        return node.ssh(CTL, "python3", "-c", OPEN, "10.77.0.11", str(port), check=False).stdout == "open\n"

    assert [port for port in (22, 5555, 8444, 20000) if reached(port)] == [20000]
    assert counted(node)["dropped_in"] > before


def test_nothing_gets_in_from_outside_and_nothing_answers(node):
    words = [*router.enter_outside(node.name), "bash", "-c", "echo > /dev/tcp/10.77.0.11/22"]

    done = subprocess.run(["timeout", "1", *words], capture_output=True, check=False)

    assert done.returncode != 0
    assert router.records(node.name) == []


@pytest.mark.parametrize(("gone", "goes_on"), [((), True), (("agents_api",), False)], ids=["kept", "gone"])
def test_a_connection_lives_as_long_as_the_rule_that_let_it_in(node, gone, goes_on):
    talk = talking(node)

    assert talk.stdout.readline() == "still here\n"
    use(node, boundary.without(INPUTS, *gone))
    ended = wait_until(lambda: talk.poll() is not None, timeout_s=4)
    talk.kill()
    talk.communicate()

    assert ended is not goes_on
    assert (counted(node)["dropped_out_ended"] + counted(node)["dropped_in_ended"] > 0) is not goes_on


def talking(node):
    node.ssh(NODE, "cat > /root/talk.py", stdin=TALK)
    line = f"setpriv --reuid={AGENT} --clear-groups python3 -u - < /root/talk.py"
    return subprocess.Popen(
        [*node.ssh_words(NODE), line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_first_rules_of_a_node_do_not_hang_the_connection_that_loads_them(node):
    node.ssh(NODE, "nft delete table inet redoubt_boundary")

    said = node.ssh(NODE, f"sleep 0.5; nft -f {ACTIVE}; sleep 0.5; echo through", timeout_s=10).stdout

    assert said == "through\n"


def test_rules_for_every_node_are_read_by_nft(node):
    for other in SPEC.nodes:
        node.ssh(CTL, "cat > /tmp/rules && nft --check --file /tmp/rules",
                 stdin=boundary.rules(boundary.inputs_of(SPEC, other.name)))  # fmt: skip


@pytest.mark.parametrize("harm", [f"rm {ACTIVE}", f"echo 'table inet broken {{' > {ACTIVE}"], ids=["missing", "broken"])
def test_a_node_without_rules_it_can_read_boots_closed_and_says_so(node, harm):
    node.ssh(NODE, harm)
    node.power_off(NODE)

    node.start(NODE)

    assert node.ssh(NODE, "systemctl is-failed redoubt-boundary.service").stdout == "failed\n"
    assert not opens(node, AGENT, 8444)
    assert counted(node)["dropped_out"] > 0


def test_a_node_boots_with_its_rules_before_anything_is_sent(node):
    node.power_off(NODE)

    node.start(NODE)

    assert node.ssh(NODE, "systemctl is-active redoubt-boundary.service").stdout == "active\n"
    assert opens(node, AGENT, 8444)
    assert router.records(node.name) == []
