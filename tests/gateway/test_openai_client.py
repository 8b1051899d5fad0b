"""The unmodified OpenAI client, through the gateway over TLS, to a real runner with a real llama.cpp."""

import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.kit.tls import client_context
from tests.gateway.process import GatewayProcess, StandInControlPlane, gateway_process, until
from tests.gateway.stage import KEY
from tests.runner.runs import Site, running
from tests.runner.stand_in_api import StandInApi, stand_in_api

HELLO: list = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("served")
    control_plane = StandInControlPlane()
    with (
        stand_in_api(site.api, StandInApi()) as api,
        running(site, api, lease_s=60.0) as runner,
        gateway_process(folder, site.gateway, control_plane) as gateway,
    ):
        gateway.start()
        runner.until_ready()
        told = api.registered[-1]
        control_plane.publish(
            SnapshotReplica(
                replica_id=told["replica_id"],
                host="127.0.0.1",
                port=told["port"],
                certificate_pem=told["certificate_pem"],
            )
        )
        until(gateway.is_ready)
        yield gateway
    control_plane.go_away()


@pytest.fixture
def client(served: GatewayProcess, site: Site) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(verify=client_context(site.gateway.ca), trust_env=False) as http:
        yield openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, http_client=http, max_retries=0)


def test_it_lists_the_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["chat", "hidden", "empty"]


def test_it_gets_a_completion(client: openai.OpenAI):
    answer = client.chat.completions.create(model="chat", messages=HELLO, max_tokens=8)

    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


def test_it_streams_a_completion_to_its_last_token(client: openai.OpenAI):
    stream = client.chat.completions.create(
        model="chat", messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)

    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text
    assert events[-1].usage is not None
    assert [e.choices[0].finish_reason for e in events if e.choices and e.choices[0].finish_reason] != []


def test_it_understands_every_refusal(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="does not exist or this key may not use it"):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="cache_salt"):
        client.chat.completions.create(model="chat", messages=HELLO, extra_body={"cache_salt": "x"})
    with pytest.raises(openai.AuthenticationError, match="not known here"):
        client.with_options(api_key="rdk_wrong").models.list()
    with pytest.raises(openai.InternalServerError, match="no ready replica"):
        client.chat.completions.create(model="empty", messages=HELLO)


def test_a_prompt_that_does_not_fit_is_the_engines_word_as_a_bad_request(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "river " * 20_000}])


def test_it_may_leave_in_the_middle_and_come_back(client: openai.OpenAI):
    for _ in range(6):
        stream = client.chat.completions.create(model="chat", messages=HELLO, max_tokens=500, stream=True)
        next(iter(stream))
        stream.close()

    assert client.chat.completions.create(model="chat", messages=HELLO, max_tokens=1).choices


def test_more_clients_than_slots_all_get_their_answer(client: openai.OpenAI):
    answers: list[str | None] = []

    def ask() -> None:
        answer = client.chat.completions.create(model="chat", messages=HELLO, max_tokens=4)
        answers.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(answers) == 24
    assert all(answers)


def test_no_header_says_where_the_answer_came_from(served: GatewayProcess, site: Site):
    with served.client() as http:
        raw = http.post("/v1/chat/completions", json={"model": "chat", "messages": HELLO, "max_tokens": 1})

    ours = {
        "content-type",
        "content-length",
        "x-request-id",
        "x-redoubt-endpoint",
        "x-redoubt-revision",
        "x-redoubt-zone",
    }
    assert set(raw.headers) == ours
    assert Path(site.model).name not in raw.text
