"""The gateway of a whole site: budgets, revocation, killed workers and usage, with two workers and real replicas."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from practice.site import ENDPOINT, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system


def ask_many(site: PracticeSite, key: str, count: int, *, most: int = 12, **headers: str) -> list[dict[str, Any]]:
    """Ask so often through the gateway, some at once, from inside the boundary."""
    words = [site.gateway, key, str(site.ca), ENDPOINT, str(count), str(most)]
    words += [f"x-redoubt-{name}={value}" for name, value in headers.items()]
    command = [*site.lab.enter, sys.executable, "-m", "tests.support.many_requests", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def new_key(site: PracticeSite, name: str) -> tuple[str, str]:
    """Return the id and the secret of a new key that the gateway knows."""
    made = site.redoubt_json("key", "create", name)
    wait_for(lambda: ask_many(site, made["secret"], 1, most=1)[0]["status"] != 401, "a gateway that knows the key")
    return made["key"]["id"], made["secret"]


def spent(site: PracticeSite, budget: str) -> int:
    return int(site.redoubt_json("budget", "show", budget)["spent"])


def test_a_budget_is_not_overspent_by_one_token_whatever_is_asked_at_once(site: PracticeSite) -> None:
    key, secret = new_key(site, "bounded")
    made = site.redoubt_json("budget", "create", "key", "completion_tokens", "--name", key, "--most", "100")
    budget = made[0]["id"] if isinstance(made, list) else made["id"]
    wait_for(lambda: "x-redoubt-budget-left" in ask_many(site, secret, 1, most=1)[0]["headers"], "the budget")

    answers = ask_many(site, secret, 40)

    used = sum(answer["usage"]["completion_tokens"] for answer in answers if answer["status"] == 200)
    refused = [answer for answer in answers if answer["status"] != 200]
    assert refused
    assert {(answer["status"], answer["code"]) for answer in refused} == {(429, "budget_exhausted")}
    assert used <= 100
    wait_for(lambda: spent(site, budget) >= used, "all that was used on record")
    assert spent(site, budget) <= 100


def test_a_revoked_key_is_refused_by_every_worker(site: PracticeSite) -> None:
    key, secret = new_key(site, "to be revoked")

    site.redoubt("key", "revoke", key)
    began = time.monotonic()

    def all_refuse() -> bool:
        return {answer["status"] for answer in ask_many(site, secret, 6, most=1)} == {401}

    wait_for(all_refuse, "a refusal by every worker", within_s=20)
    print(f"refused everywhere within {time.monotonic() - began:.1f} s, asking included")


def test_a_killed_worker_is_invisible_to_others_and_loses_no_record(site: PracticeSite) -> None:
    _, secret = new_key(site, "counted")
    agent = f"agent-{int(time.time())}"
    first = ask_many(site, secret, 10, agent=agent, workflow="counting")
    site.lab.ssh("ctl1", "pkill -KILL -n -u redoubt-gateway -f controlplane.main.gateway")
    second = ask_many(site, secret, 30, agent=agent, workflow="counting")

    answered = [answer for answer in (*first, *second) if answer["status"] == 200]
    assert len(answered) >= 38, [answer for answer in second if answer["status"] != 200]
    tokens = sum(answer["usage"]["completion_tokens"] for answer in answered)

    def recorded() -> bool:
        rows = site.redoubt_json("usage", "--by", "agent", "--since", "1h")["rows"]
        return sum(row["tokens_out"] for row in rows if row["key"] == agent) >= tokens

    wait_for(recorded, "all tokens in the usage report", within_s=30)
