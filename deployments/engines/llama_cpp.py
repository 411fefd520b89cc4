"""llama.cpp, as xllamacpp ships it: GGUF weights on a CPU or a GPU."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.engines.base import Job, whole_number
from deployments.errors import BadOption
from deployments.launch import LaunchSpec

HOST = Path(__file__).with_name("llama_cpp_host.py")
OPTIONS = ("context_tokens", "slots")
LEAST_CONTEXT, DEFAULT_CONTEXT, MOST_CONTEXT = 256, 2048, 131_072
DEFAULT_SLOTS, MOST_SLOTS = 4, 8


class LlamaCpp:
    """Options: `context_tokens` of each call, `slots` that answer at once. llama.cpp divides its context by slots."""

    def check(self, options: Mapping[str, Any], *, max_context_tokens: int | None) -> dict[str, int]:
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise BadOption(unknown[0], f"llama.cpp has no option {unknown[0]!r}; it takes {' and '.join(OPTIONS)}")
        most = min(max_context_tokens or MOST_CONTEXT, MOST_CONTEXT)
        return {
            "context_tokens": whole_number(
                options, "context_tokens", default=min(DEFAULT_CONTEXT, most), least=min(LEAST_CONTEXT, most), most=most
            ),
            "slots": whole_number(options, "slots", default=DEFAULT_SLOTS, least=1, most=MOST_SLOTS),
        }

    def spec(self, job: Job, options: Mapping[str, int]) -> LaunchSpec:
        argv = (
            sys.executable, str(HOST), "--tag={tag}", "--weights", job.weights_path, "--served-name", job.served_name,
            "--context", str(options["context_tokens"] * options["slots"]), "--slots", str(options["slots"]),
            "--threads", str(job.threads), "--port", "{port}", "--key-file", "{key_file}",
        )  # fmt: skip
        return LaunchSpec(name=job.name, argv=argv, key=job.key)
