"""The engine's own process: llama.cpp's HTTP server on loopback. Run by path, without Django.

SIGTERM keeps its default action: it ends the process at once, also in the middle of a stream.
"""

import argparse
import json
import os
import threading
from pathlib import Path

import xllamacpp

FLASH = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


def main() -> None:
    asked = arguments()
    params = xllamacpp.CommonParams()
    params.model.path = asked.weights
    params.model_alias = {asked.served_name}
    params.n_ctx = asked.context
    params.n_parallel = asked.slots
    params.cpuparams.n_threads = asked.threads
    params.cpuparams_batch.n_threads = asked.threads
    params.cache_type_k = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{asked.cache_type_k.upper()}")
    params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{asked.cache_type_v.upper()}")
    flash = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = getattr(flash, f"LLAMA_FLASH_ATTN_TYPE_{FLASH[asked.flash_attention]}")
    params.n_gpu_layers = asked.gpu_layers
    params.cache_ram_mib = asked.prompt_cache_mib
    params.embedding = asked.embeddings
    if asked.pooling != "model":
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{asked.pooling.upper()}")
    if template := os.environ.pop("MODELPORT_CHAT_TEMPLATE", ""):
        params.chat_template = template
    params.lora_adapters = [adapter(*json.loads(text)) for text in asked.lora]
    params.hostnames = ["127.0.0.1"]
    params.port = asked.port
    params.api_keys = [Path(asked.key_file).read_text(encoding="utf-8").strip()]
    params.endpoint_metrics = True
    params.warmup = True
    params.ui = False
    server = xllamacpp.Server(params)
    print(f"serving {asked.served_name} at {server.listening_address}", flush=True)
    threading.Event().wait()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tag", required=True, help="Names this process for those who look for it.")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--served-name", required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key-file", required=True)
    parser.add_argument("--cache-type-k", default="f16")
    parser.add_argument("--cache-type-v", default="f16")
    parser.add_argument("--flash-attention", choices=sorted(FLASH), default="auto")
    parser.add_argument("--gpu-layers", type=int, default=-1)
    parser.add_argument("--prompt-cache-mib", type=int, default=256)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--pooling", default="model")
    parser.add_argument("--lora", action="append", default=[], help="JSON: [path, scale]")
    return parser.parse_args()


def adapter(path: str, scale: float) -> "xllamacpp.CommonAdapterLoraInfo":
    info = xllamacpp.CommonAdapterLoraInfo()
    info.path = path
    info.scale = scale
    return info


if __name__ == "__main__":
    main()
