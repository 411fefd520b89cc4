"""llama.cpp, as xllamacpp ships it: GGUF weights on a CPU or a GPU."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.engines.base import Job, whole_number
from deployments.errors import BadOption
from deployments.launch import LaunchSpec

HOST = Path(__file__).with_name("llama_cpp_host.py")
OPTIONS = {"context_tokens": (2048, 256, 131_072), "slots": (4, 1, 16)}


class LlamaCpp:
    """Options: `context_tokens` for each call, `slots` that answer at once. llama.cpp divides its context by slots."""

    def check(self, options: Mapping[str, Any]) -> dict[str, int]:
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise BadOption(unknown[0], f"llama.cpp has no option {unknown[0]!r}; it takes {', '.join(OPTIONS)}")
        return {
            name: whole_number(options, name, default=default, least=least, most=most)
            for name, (default, least, most) in OPTIONS.items()
        }

    def spec(self, job: Job, options: Mapping[str, Any]) -> LaunchSpec:
        checked = self.check(options)
        argv = (
            sys.executable, str(HOST), "--weights", job.weights_path, "--served-name", job.served_name,
            "--context", str(checked["context_tokens"] * checked["slots"]), "--slots", str(checked["slots"]),
            "--threads", str(job.threads), "--port", "{port}", "--key-file", "{key_file}",
        )  # fmt: skip
        return LaunchSpec(name=job.name, argv=argv, key=job.key)
