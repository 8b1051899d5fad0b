"""A GPU node dies, or is cut off: the endpoint answers again, and the old copy never does."""

import time

import pytest
from practice.site import ENDPOINT, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

OTHER = {"gpu1": "gpu2", "gpu2": "gpu1"}
REACH = """
runuser -u redoubt-gateway -- /opt/redoubt/venv/bin/python - <<'END'
import ssl, httpx
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain("/etc/redoubt/tls/gateway.crt", "/etc/redoubt/tls/gateway.key")
answer = httpx.get("https://{host}:{port}/v1/models", verify=context, timeout=3, trust_env=False)
raise SystemExit(not answer.is_success)
END
"""


def test_the_endpoint_answers_from_the_other_node_after_a_power_cut(site: PracticeSite) -> None:
    node = _home(site)
    site.lab.power_cut(node)
    began = time.monotonic()
    try:
        wait_for(lambda: _home(site) == OTHER[node] and site.answers(), "an answer from the other node")
        print(f"answered from {OTHER[node]} {time.monotonic() - began:.1f} s after the power cut")
        wait_for(lambda: _state(site, node) == "silent", "the dead node to show as silent")
    finally:
        site.lab.start(node)
    wait_for(lambda: _state(site, node) == "ready", "the node to be ready again")


def test_a_copy_that_was_cut_off_is_replaced_and_never_answers_again(site: PracticeSite) -> None:
    node = _home(site)
    port = site.lab.ssh(
        node, "ss -tlnH | awk '{print $4}' | grep -oE ':20[0-9]{3}$' | tr -d : | head -1"
    ).stdout.strip()
    address = next(str(n.address) for n in site.lab.nodes() if n.name == node)
    reach = REACH.format(host=address, port=port)
    assert site.lab.ssh("ctl1", reach, check=False).returncode == 0
    site.lab.partition(node)
    try:
        wait_for(lambda: _home(site) == OTHER[node] and site.answers(), "an answer from the other node")
    finally:
        site.lab.heal()
    wait_for(lambda: _state(site, node) == "ready", "the node to be ready again")
    for _ in range(20):
        assert site.lab.ssh("ctl1", reach, check=False).returncode != 0, "the old copy answered"
        time.sleep(0.2)
    assert site.answers()


def _home(site: PracticeSite) -> str:
    """Name the node of the one ready replica, "" when there is none."""
    replicas = site.redoubt_json("endpoint", "show", ENDPOINT)["replicas"]
    ready = [replica["node"] for replica in replicas if replica["state"] == "ready"]
    return str(ready[0]) if len(ready) == 1 else ""


def _state(site: PracticeSite, node: str) -> str:
    return str(site.redoubt_json("node", "show", node)["state"])
