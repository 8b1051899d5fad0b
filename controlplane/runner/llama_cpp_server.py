"""The inference server's own process: llama.cpp on a unix socket. Started by the runner, never by hand."""

import argparse
import signal

import xllamacpp


def main() -> None:
    """Load the model, listen, and serve until killed."""
    parser = argparse.ArgumentParser()
    for name in ("model", "alias", "socket"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("context", "parallel", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    server = xllamacpp.Server(_parameters(parser.parse_args()))
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


if __name__ == "__main__":
    main()
