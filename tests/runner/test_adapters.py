"""What llama.cpp can be started for besides completing."""

import hashlib

import pytest

from controlplane.runner.pooling import RANK, read_pooling
from tests.runner.ranking_weights import write_ranking_weights
from tests.runner.runs import running
from tests.runner.test_failing import failed_with


@pytest.fixture
def ranking(site, tmp_path):
    weights = tmp_path / "ranking.gguf"
    write_ranking_weights(site.model, weights)
    return {"model_path": str(weights), "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def test_an_embed_run_proves_itself_with_a_vector_and_gives_the_same_one_again(site, api):
    with running(site, api, adapter="embed") as run, run.until_ready().gateway() as gateway:
        asks = [{"model": "tiny", "input": text} for text in ("river", ["river", "stone"], "river " * 300)]
        one, two, long = [gateway.post("/v1/embeddings", json=ask).json()["data"] for ask in asks]

    assert one[0]["embedding"] == pytest.approx(two[0]["embedding"], abs=1e-3)
    assert two[0]["embedding"] != pytest.approx(two[1]["embedding"], abs=1e-3)
    assert len(long[0]["embedding"]) == len(one[0]["embedding"])


def test_a_rerank_run_orders_texts(site, api, ranking):
    with running(site, api, adapter="rerank", **ranking) as run, run.until_ready().gateway() as gateway:
        ask = {"model": "tiny", "query": "river", "documents": ["stone", "river", "oak"]}
        results = gateway.post("/v1/rerank", json=ask).json()["results"]

    assert sorted(result["index"] for result in results) == [0, 1, 2]


def test_weights_without_a_ranking_head_do_not_rank(site, api):
    with running(site, api, adapter="rerank") as run:
        assert run.exit_code() == 5
        assert "tiny cannot rank" in failed_with(api)


def test_weights_with_a_ranking_head_do_not_embed(site, api, ranking):
    with running(site, api, adapter="embed", **ranking) as run:
        assert run.exit_code() == 5
        assert "take the adapter rerank" in failed_with(api)


def test_the_pooling_of_weights_is_read_from_their_head(site, ranking, tmp_path):
    assert read_pooling(site.model) is None
    assert read_pooling(tmp_path / "ranking.gguf") == RANK
