"""The conformance test of cache isolation: what one tenant's prompt left in a real engine never warms another's."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.gateway.process import GatewayProcess, StandInControlPlane, gateway_process, until
from tests.gateway.served import Replicas
from tests.gateway.stage import endpoint, key, snapshot
from tests.runner.runs import Site

WORDS = " ".join(f"w{n}" for n in range(60))  # the practice model's context is short


@pytest.fixture(scope="module")
def gateway(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    control_plane, folder = StandInControlPlane(), tmp_path_factory.mktemp("tenants")
    with ExitStack() as stack:
        stack.callback(control_plane.go_away)
        gateway = stack.enter_context(gateway_process(folder, site.gateway, control_plane))
        gateway.start()
        replicas = Replicas(site, folder, stack)
        keys = tuple(key(f"rdk_{name}").model_copy(update={"project": name}) for name in ("alpha", "beta"))
        shared = endpoint("shared", (replicas.start("llama_cpp"),))
        own = shared.model_copy(update={"name": "own", "endpoint_id": "own", "exclusive": True, "project": "alpha"})
        served = snapshot(1, (), keys, expires_in_s=3600).model_copy(update={"endpoints": (shared, own)})
        control_plane.publish_snapshot(served)
        until(gateway.is_ready)
        yield gateway


def ask(gateway: GatewayProcess, tenant: str, model: str, prompt: str) -> tuple[int, int, float]:
    """Return status, cached tokens and seconds."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
    with gateway.client() as client:
        began_s = time.perf_counter()
        reply = client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer rdk_{tenant}"})
        took_s = time.perf_counter() - began_s
    told = json.loads(reply.text).get("usage", {}).get("prompt_tokens_details") or {}
    return reply.status_code, told.get("cached_tokens", 0), took_s


def test_a_prompt_of_one_tenant_warms_no_other(gateway: GatewayProcess):
    for round_ in range(3):
        prompt = f"round {round_} {WORDS}"
        assert ask(gateway, "alpha", "shared", prompt)[:2] == (200, 0)
        assert ask(gateway, "beta", "shared", prompt)[:2] == (200, 0)
        assert ask(gateway, "alpha", "shared", prompt)[:2] == (200, 0)


def test_an_exclusive_endpoint_reuses_its_own_projects_prompts_and_lets_nobody_else_in(gateway: GatewayProcess):
    prompt = f"mine {WORDS}"
    ask(gateway, "alpha", "own", prompt)

    status, cached, _ = ask(gateway, "alpha", "own", prompt)
    refused, _, _ = ask(gateway, "beta", "own", prompt)

    assert status == 200
    assert cached > 20
    assert refused == 404
