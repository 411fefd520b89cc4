"""The engines by name. A new one is a module beside llama_cpp.py and a line here (docs/adding-an-engine.md)."""

from types import MappingProxyType

from deployments.engines.base import Engine, Job
from deployments.engines.llama_cpp import LlamaCpp

__all__ = ["ENGINES", "Engine", "Job", "choose"]

ENGINES: MappingProxyType[str, Engine] = MappingProxyType({"llama_cpp": LlamaCpp()})


def choose(name: str) -> Engine:
    """The engine of that name; KeyError is a defect in the catalog, not the caller's."""
    return ENGINES[name]
