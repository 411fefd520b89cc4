"""How to speak to each kind of target. One file each; `ADAPTERS` says which wire is whose."""

from types import MappingProxyType

from gateway.adapters.anthropic import AnthropicAdapter
from gateway.adapters.base import Adapter
from gateway.adapters.openai import OpenAIAdapter
from gateway.adapters.platform import PlatformAdapter

ADAPTERS: MappingProxyType[str, Adapter] = MappingProxyType(
    {"openai": OpenAIAdapter(), "anthropic": AnthropicAdapter(), "platform": PlatformAdapter()}
)
