"""Certificates of a running site: renewed under traffic, never fought over by the playbooks, revoked at once."""

import time

import pytest
from lab.errors import LabError
from practice.people import ADMINISTRATOR
from practice.site import PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system
PYTHON = "/opt/redoubt/venv/bin/python"
RENEWED = ("node", "gateway", "api", "database-client")
UNITS = "redoubt-api redoubt-reconciler redoubt-gateway redoubt-agent"
# Lays down pairs that are past half their life, with the names they have: as if a day had gone by. Tells their serials
# itself: whoever looks afterwards may find the api's already renewed.
AGE = """
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from cryptography import x509
from controlplane.kit.issuing import Issuer, Usage, make_request, read_request
from controlplane.kit.leaf import lay_pair
from controlplane.main.own_leaves import names_in
issuing = Path("/etc/redoubt/issuing")
issuer = Issuer.load(issuing / "issuing.key", issuing / "issuing.crt")
for name in %r:
    folder = Path("/etc/redoubt/tls") / name
    names = names_in(x509.load_pem_x509_certificate((folder / "current/leaf.crt").read_bytes()))
    key, request = make_request("")
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30)
    usage = Usage.SERVER if name == "api" else Usage.CLIENT
    leaf = issuer.issue(
        read_request(request).key, names, frozenset({usage}), start=start, end=start + timedelta(hours=48)
    )
    lay_pair(folder, leaf.serial, key, leaf.pem)
    print(leaf.serial)
    for path in [*folder.iterdir(), *(folder / leaf.serial).iterdir()]:
        shutil.chown(path, folder.owner(), folder.group(), follow_symlinks=False)
"""
SAID = "journalctl --no-pager --output=cat --since=-4min --grep='renew|loop.failed' --unit='redoubt-*'"
REPORT = """
import http.client
from pathlib import Path
from controlplane.kit.leaf import pair_files
from controlplane.kit.tls import client_context
tls = Path("/etc/redoubt/tls")
context = client_context(tls / "ca.crt", pair_files(tls / "node", tls / "ca.crt"))
connection = http.client.HTTPSConnection(%r, 8444, context=context, timeout=10)
connection.request("POST", "/api/v1/agent/reports", "{}", {"content-type": "application/json"})
print(connection.getresponse().read().decode())
"""


def age(site: PracticeSite) -> dict[str, int]:
    """Return the serials of the pairs that were laid down."""
    told = site.lab.ssh("ctl1", f"{PYTHON} -", stdin=AGE % (RENEWED,)).stdout.split()
    return {name: int(serial, 16) for name, serial in zip(RENEWED, told, strict=True)}


def still_aged(site: PracticeSite, aged: dict[str, int]) -> list[str]:
    shown = "; ".join(f"openssl x509 -noout -serial -in /etc/redoubt/tls/{name}.crt" for name in aged)
    found = site.lab.ssh("ctl1", shown).stdout.split()
    now = {name: int(line.removeprefix("serial="), 16) for name, line in zip(aged, found, strict=True)}
    return [name for name, serial in aged.items() if now[name] == serial]


def test_everything_on_a_node_is_renewed_under_traffic_without_a_restart_or_a_lost_answer(site: PracticeSite) -> None:
    pids = site.lab.ssh("ctl1", f"systemctl show --property=MainPID {UNITS}").stdout
    aged, answers = age(site), list[str]()

    def all_renewed() -> bool:
        try:
            answers.append(site.ask().text)  # through gateway and run, with whatever they show now
        except LabError as lost:
            answers.append("")
            print(lost)
        return not still_aged(site, aged)

    try:
        wait_for(all_renewed, "every certificate of ctl1 to be renewed", within_s=150)
    except AssertionError:
        print("not renewed:", still_aged(site, aged), site.lab.ssh("ctl1", SAID, check=False).stdout)
        raise
    time.sleep(3)  # every process looks for its new pair every two seconds
    answers.append(site.ask().text)

    assert len(answers) > 1
    assert all(answers)
    assert site.lab.ssh("ctl1", f"systemctl show --property=MainPID {UNITS}").stdout == pids
    assert site.plan() == 0


def test_a_revoked_node_is_refused_at_its_next_request_and_a_token_lets_it_in_again(site: PracticeSite) -> None:
    site.people.step_up(ADMINISTRATOR)
    site.redoubt("node", "revoke", "store1", "--reason", "practice")
    refused = _report(site, "store1")

    token = site.redoubt_json("node", "join-token", "store1")["token"]
    words = f"-m controlplane.main.join --config /etc/redoubt/agent.toml --url {site.api}"
    joined = site.lab.ssh(
        "store1", f"cd / && REDOUBT_JOIN_TOKEN={token} runuser -u redoubt-agent -- {PYTHON} {words}"
    ).stdout

    assert "node_revoked" in refused  # the very first request after the command
    assert "this machine is store1" in joined
    assert "node_revoked" not in _report(site, "store1")
    wait_for(lambda: _state(site, "store1") == "ready", "store1 to report again", within_s=30)


def _report(site: PracticeSite, node: str) -> str:
    """Send an empty report with the node's certificate, as its agent would; return the answer."""
    host = site.api.removeprefix("https://").partition(":")[0]
    return site.lab.ssh(node, f"runuser -u redoubt-agent -- {PYTHON} -", stdin=REPORT % host).stdout


def _state(site: PracticeSite, name: str) -> str:
    return next(node["state"] for node in site.redoubt_json("node", "list") if node["name"] == name)
