"""One list of what a client can expect, through the unmodified clients, the gateway over TLS and a real llama.cpp."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from controlplane.kit.tls import client_context
from tests.gateway.drivers import DRIVERS, Anthropic, Driver, OpenAiChat, OpenAiResponses
from tests.gateway.process import GatewayProcess
from tests.gateway.served import CONTEXT_TOKENS, serving
from tests.gateway.stage import KEY
from tests.runner.runs import Site


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[GatewayProcess]:
    with serving(tmp_path_factory.mktemp("served"), site) as gateway:
        yield gateway


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, served: GatewayProcess, site: Site) -> Iterator[Driver]:
    with openai.DefaultHttpxClient(verify=client_context(site.gateway.ca), trust_env=False) as http:
        yield request.param(served.url, KEY, http)


@pytest.fixture
def client(served: GatewayProcess, site: Site) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(verify=client_context(site.gateway.ca), trust_env=False) as http:
        yield OpenAiChat(served.url, KEY, http).client


def test_it_lists_the_models_and_finds_one(driver: Driver):
    assert driver.models() == ["chat", "vectors", "ranks", "empty"]
    assert driver.model("vectors") == "vectors"
    with pytest.raises(driver.errors["model"], match="does not exist or this key may not use it"):
        driver.model("nobody")


def test_it_gets_an_answer_with_its_usage(driver: Driver):
    said = driver.say("The river and the stone", tokens=8)

    assert said.text.strip()
    assert (said.tokens_out, said.finish) == (8, "length")
    assert said.tokens_in > 8


def test_a_stream_says_what_a_whole_answer_says(driver: Driver):
    said, streamed = driver.say("Where do herons nest?", tokens=12), driver.stream("Where do herons nest?", tokens=12)

    assert streamed == said


def test_an_answer_without_a_bound_is_bounded_by_the_gateway(driver: Driver):
    said = driver.say("On and on", tokens=None)

    assert said.tokens_out <= CONTEXT_TOKENS


def test_words_beyond_ascii_pass(driver: Driver):
    assert driver.say("Où est la rivière? 川 \U0001f30a", tokens=3).tokens_out == 3


def test_it_understands_every_refusal(driver: Driver):
    with pytest.raises(driver.errors["model"], match="does not exist or this key may not use it"):
        driver.say("hello", 1, model="nobody")
    with pytest.raises(driver.errors["model"], match="does not serve /v1/"):
        driver.say("hello", 1, model="vectors")
    with pytest.raises(driver.errors["request"], match="cache_salt belongs to the inference server"):
        driver.say("hello", 1, cache_salt="x")
    with pytest.raises(driver.errors["request"], match="temprature is no field"):
        driver.say("hello", 1, temprature=1)
    with pytest.raises(driver.errors["busy"], match="no ready replica"):
        driver.say("hello", 1, model="empty")


def test_a_wrong_key_is_understood(driver: Driver):
    driver.with_key("rdk_wrong")

    with pytest.raises(driver.errors["key"], match="not known here"):
        driver.say("hello", 1)
    with pytest.raises(driver.errors["key"], match="not known here"):
        driver.models()


def test_a_prompt_that_does_not_fit_is_a_bad_request(driver: Driver):
    with pytest.raises(driver.errors["request"], match="context"):
        driver.say("river " * 20_000, tokens=1)


def test_it_may_leave_in_the_middle_and_come_back(driver: Driver):
    for _ in range(3):
        stream = driver.words("On and on", tokens=500)
        next(iter(stream))
        stream.close()

    assert driver.say("hello", tokens=1).tokens_out == 1


def test_more_clients_than_slots_all_get_their_answer(driver: Driver):
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(driver.say("Hello", 4).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == 8
    assert all(answers)


def test_counted_tokens_are_those_that_are_read(served: GatewayProcess, site: Site):
    with openai.DefaultHttpxClient(verify=client_context(site.gateway.ca), trust_env=False) as http:
        messages, responses = Anthropic(served.url, KEY, http), OpenAiResponses(served.url, KEY, http)
        asked: list[Any] = [{"role": "user", "content": "The river"}]  # one kind of the client's union of messages

        counted = messages.client.messages.count_tokens(model="chat", messages=asked).input_tokens
        also = responses.client.responses.input_tokens.count(model="chat", input="The river").input_tokens

        assert counted == messages.say("The river", 1).tokens_in
        assert also == responses.say("The river", 1).tokens_in


def test_texts_become_vectors_in_both_codings(client: openai.OpenAI):
    packed = client.embeddings.create(model="vectors", input=["river", "stone"])
    plain = client.embeddings.create(model="vectors", input="river", encoding_format="float")

    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-3)
    assert packed.usage.prompt_tokens > plain.usage.prompt_tokens > 0
    with pytest.raises(openai.BadRequestError, match="vectors of one length"):
        client.embeddings.create(model="vectors", input="river", dimensions=4)
    with pytest.raises(openai.BadRequestError, match="too large"):
        client.embeddings.create(model="vectors", input="river " * 2000)


def test_texts_are_ranked_and_scored(client: openai.OpenAI):
    documents = ["stone", "river", "oak"]
    ask = {"model": "ranks", "query": "river", "documents": documents, "return_documents": True, "top_n": 2}
    ranked: Any = client.post("/rerank", body=ask, cast_to=object)  # plain JSON, of no type of the client
    scored: Any = client.post("/score", body={"model": "ranks", "text_1": "river", "text_2": documents}, cast_to=object)

    assert [result["document"]["text"] for result in ranked["results"]] == [
        documents[result["index"]] for result in ranked["results"]
    ]
    scores = {one["index"]: one["score"] for one in scored["data"]}
    assert [scores[result["index"]] for result in ranked["results"]] == sorted(scores.values(), reverse=True)[:2]
    assert scored["usage"] == ranked["usage"]


def test_a_text_becomes_tokens(client: openai.OpenAI, served: GatewayProcess):
    with served.client() as http:
        told = http.post("/tokenize", json={"model": "chat", "prompt": "river stone"}).json()

    assert told["count"] == len(told["tokens"]) > 2


def test_several_completions_of_one_request_are_refused_where_they_cannot_be_counted(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="one completion for a request"):
        client.completions.create(model="chat", prompt=["a", "b"], max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="one completion for a request"):
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "a"}], n=2)


def test_no_header_says_where_the_answer_came_from(served: GatewayProcess, site: Site):
    ask = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    with served.client() as http:
        raw = http.post("/v1/chat/completions", json=ask)

    ours = {"content-type", "content-length", "x-request-id", "x-redoubt-endpoint", "x-redoubt-revision"}
    assert set(raw.headers) == ours | {"x-redoubt-zone", "x-redoubt-cached-tokens"}
    assert Path(site.model).name not in raw.text
