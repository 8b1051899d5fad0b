"""The inference server's own process: llama.cpp on a unix socket. Started by the runner, never by hand."""

import argparse
import signal
import sys
from pathlib import Path

import xllamacpp

from controlplane.runner.pooling import RANK, read_pooling


def main() -> None:
    """Load the model, listen, and serve until killed."""
    parser = argparse.ArgumentParser()
    for name in ("model", "alias", "socket"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("context", "parallel", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--work", choices=("complete", "embed", "rank"), required=True)
    asked = parser.parse_args()
    parameters = _parameters(asked)
    if asked.work != "complete":
        _give_vectors(parameters, asked)
    server = xllamacpp.Server(parameters)
    print("listening on", server.listening_address, flush=True)  # noqa: T201 - the runner keeps the last lines
    while True:
        signal.pause()


def _parameters(asked: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked.model
    parameters.model_alias = {asked.alias}
    parameters.hostnames = [asked.socket]
    parameters.n_ctx = asked.context * asked.parallel  # shared evenly between the slots
    parameters.n_parallel = asked.parallel
    parameters.cpuparams.n_threads = asked.threads
    parameters.cpuparams_batch.n_threads = asked.threads
    parameters.n_threads_http = max(16, 4 * asked.parallel)  # an idle kept-alive connection holds one
    parameters.cache_ram_mib = 0  # prompts of finished requests are not kept aside
    parameters.cache_prompt = False  # a request that may reuse a prompt says so: /v1/messages could not say no
    parameters.endpoint_slots = False  # it would show prompts
    parameters.ui = False
    parameters.offline = True
    parameters.warmup = False  # the runner asks for a token anyway
    parameters.verbosity = 2  # warnings: nothing about single requests
    return parameters


def _give_vectors(parameters: xllamacpp.CommonParams, asked: argparse.Namespace) -> None:
    """Have the server give one vector for a text, or one number for a pair of texts."""
    pooling = read_pooling(Path(asked.model))
    if (asked.work == "rank") != (pooling == RANK):
        wanted = "the adapter rerank" if pooling == RANK else "weights with a ranking head"
        sys.exit(f"{asked.alias} cannot {asked.work}: its weights name pooling {pooling}; take {wanted}")
    parameters.embedding = True
    kinds = xllamacpp.llama_pooling_type
    if asked.work == "rank":
        parameters.pooling_type = kinds.LLAMA_POOLING_TYPE_RANK
    elif pooling is None:
        parameters.pooling_type = kinds.LLAMA_POOLING_TYPE_MEAN
    parameters.n_batch = parameters.n_ubatch = asked.context  # a text is read in one go


if __name__ == "__main__":
    main()
