"""What is measured. Every quantity on a bill is of one of these meters; token classes are disjoint."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Meter:
    """One kind of quantity: `per` units of it are what people quote a price for (a million tokens, an hour)."""

    name: str
    unit: str
    per: int
    quoted: str
    label: str


TOKENS_INPUT = Meter("tokens.input", "token", 1_000_000, "M input tokens", "Input tokens")
TOKENS_INPUT_CACHED = Meter("tokens.input.cached", "token", 1_000_000, "M cached input tokens", "Cached input tokens")
TOKENS_INPUT_CACHE_WRITE = Meter(
    "tokens.input.cache_write", "token", 1_000_000, "M cache-write tokens", "Cache-write tokens"
)
TOKENS_INPUT_CACHE_WRITE_1H = Meter(
    "tokens.input.cache_write_1h", "token", 1_000_000, "M 1-hour cache-write tokens", "1-hour cache-write tokens"
)
TOKENS_OUTPUT = Meter("tokens.output", "token", 1_000_000, "M output tokens", "Output tokens")
TOKENS_INPUT_AUDIO = Meter("tokens.input.audio", "token", 1_000_000, "M audio input tokens", "Audio input tokens")
TOKENS_INPUT_IMAGE = Meter("tokens.input.image", "token", 1_000_000, "M image input tokens", "Image input tokens")
TOKENS_OUTPUT_REASONING = Meter("tokens.output.reasoning", "token", 1_000_000, "M reasoning tokens", "Reasoning tokens")
TOKENS_OUTPUT_AUDIO = Meter("tokens.output.audio", "token", 1_000_000, "M audio output tokens", "Audio output tokens")
TOKENS_INPUT_BATCH = Meter("tokens.input.batch", "token", 1_000_000, "M batch input tokens", "Batch input tokens")
TOKENS_OUTPUT_BATCH = Meter("tokens.output.batch", "token", 1_000_000, "M batch output tokens", "Batch output tokens")
IMAGES_OUTPUT = Meter("images.output", "image", 1, "image", "Images made")
COMPUTE = "compute."  # how the names of all meters of compute begin
COMPUTE_SECONDS = Meter("compute.seconds", "second", 3600, "hour", "Compute seconds")
# From an engine's start to its first healthy answer. A start that never got there is metered too, by default at 0.
COMPUTE_STARTING = Meter("compute.starting", "second", 3600, "hour starting", "Compute seconds starting")
COMPUTE_STARTING_FAILED = Meter(
    "compute.starting.failed", "second", 3600, "hour of failed starts", "Compute seconds of starts that failed"
)
# What is used of a team's credit: no usage, and nothing that has a price in the price book.
CREDIT = Meter("credit", "credit", 1, "credit", "Credit")
REQUESTS = Meter("requests", "request", 1, "request", "Requests")

METERS = MappingProxyType(
    {
        meter.name: meter
        for meter in (
            TOKENS_INPUT,
            TOKENS_INPUT_CACHED,
            TOKENS_INPUT_CACHE_WRITE,
            TOKENS_INPUT_CACHE_WRITE_1H,
            TOKENS_INPUT_AUDIO,
            TOKENS_INPUT_IMAGE,
            TOKENS_INPUT_BATCH,
            TOKENS_OUTPUT,
            TOKENS_OUTPUT_REASONING,
            TOKENS_OUTPUT_AUDIO,
            TOKENS_OUTPUT_BATCH,
            IMAGES_OUTPUT,
            COMPUTE_SECONDS,
            COMPUTE_STARTING,
            COMPUTE_STARTING_FAILED,
            REQUESTS,
            CREDIT,
        )
    }
)

# A class that has no price of its own is charged as the class it belongs to (never as nothing).
CHARGED_AS = MappingProxyType(
    {
        "tokens.input.cached": "tokens.input",
        "tokens.input.cache_write": "tokens.input",
        "tokens.input.cache_write_1h": "tokens.input.cache_write",
        "tokens.input.audio": "tokens.input",
        "tokens.input.image": "tokens.input",
        "tokens.input.batch": "tokens.input",
        "tokens.output.reasoning": "tokens.output",
        "tokens.output.audio": "tokens.output",
        "tokens.output.batch": "tokens.output",
        "compute.starting": "compute.seconds",
    }
)
# Together they are the prompt, whose length decides the tier of a price.
PROMPT = frozenset(name for name in METERS if name.startswith("tokens.input"))
OUTPUT = frozenset(name for name in METERS if name.startswith("tokens.output"))
