"""The engines by name. A new one is a module beside llama_cpp.py and a line here (docs/adding-an-engine.md)."""

from types import MappingProxyType

from deployments.engines.base import Adapter, Engine, Job, Load, Place
from deployments.engines.llama_cpp import LlamaCpp
from deployments.engines.vllm import VLLM

__all__ = ["ENGINES", "Adapter", "Engine", "Job", "Load", "Place", "choose"]

ENGINES: MappingProxyType[str, Engine] = MappingProxyType({"llama_cpp": LlamaCpp(), "vllm": VLLM()})


def choose(name: str) -> Engine:
    """The engine of that name; KeyError is a defect in the catalog, not the caller's."""
    return ENGINES[name]
