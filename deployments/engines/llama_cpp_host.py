"""The engine's own process: llama.cpp's HTTP server on loopback. Run by path, without Django.

SIGTERM keeps its default action: it ends the process at once, also in the middle of a stream.
"""

import argparse
import threading
from pathlib import Path

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tag", required=True, help="Names this process for those who look for it.")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--served-name", required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key-file", required=True)
    asked = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = asked.weights
    params.model_alias = {asked.served_name}
    params.n_ctx = asked.context
    params.n_parallel = asked.slots
    params.cpuparams.n_threads = asked.threads
    params.cpuparams_batch.n_threads = asked.threads
    params.hostnames = ["127.0.0.1"]
    params.port = asked.port
    params.api_keys = [Path(asked.key_file).read_text(encoding="utf-8").strip()]
    params.endpoint_metrics = True
    params.warmup = True
    params.ui = False
    server = xllamacpp.Server(params)
    print(f"serving {asked.served_name} at {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
