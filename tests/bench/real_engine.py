"""A real llama.cpp server with the practice model: `python -m tests.bench.real_engine MODEL PORT`."""

import signal
import sys

import xllamacpp


def main(model: str, port: int) -> None:
    """Load the model, listen on loopback, and serve until killed."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = {"chat"}
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.n_ctx, parameters.n_parallel = 16_384, 4
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_threads_http = 32  # an idle kept-alive connection holds one
    parameters.warmup, parameters.offline, parameters.verbosity = False, True, 0
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
