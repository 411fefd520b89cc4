"""Memory by formula, by table; corrected by what was measured."""

from decimal import Decimal

import pytest

from deployments import sizing
from deployments.engines import Load, choose
from deployments.sizing import GIB, MIB, Demand, Estimate, Fit, Range, Shape

# As their config.json says: Llama 3.1 8B and 70B, Mistral 7B v0.1 (a window of 4096), DeepSeek V3 (latent attention).
LLAMA_8B = {"layers": 32, "kv_heads": 8, "key_width": 128, "value_width": 128, "parameters": 8_030_261_248}
LLAMA_70B = {"layers": 80, "kv_heads": 8, "key_width": 128, "value_width": 128, "parameters": 70_553_706_496}
MISTRAL = {"layers": 32, "kv_heads": 8, "key_width": 128, "value_width": 128, "window_tokens": 4096}
DEEPSEEK = {"layers": 61, "kv_heads": 1, "key_width": 576, "value_width": 0}
SMOLLM2 = {"layers": 30, "kv_heads": 3, "key_width": 64, "value_width": 64, "vocabulary": 49152, "width": 576}
MIXED = {"layers": 3, "kv_heads": [4, 0, 2], "key_width": 64, "value_width": 64}

# facts, context, calls, bytes of a key and of a value -> bytes of the KV cache
KV = [
    (LLAMA_8B, 8192, 1, 2, 2, 1 * GIB),
    (LLAMA_8B, 131_072, 1, 2, 2, 16 * GIB),
    (LLAMA_8B, 8192, 4, 1, 1, 2 * GIB),
    (LLAMA_70B, 8192, 1, 2, 2, int(2.5 * GIB)),
    (DEEPSEEK, 1000, 1, 2, 2, 61 * 576 * 2 * 1000),
    (MIXED, 1000, 1, 2, 2, 6 * 128 * 2 * 1000),
]


def demand(context: int, calls: int, key: float = 2, value: float = 2, weights: int = GIB) -> Demand:
    return Demand(weights, "", context, (calls, calls, calls), key, value, Range(0, 10 * MIB, 20 * MIB), "")


@pytest.mark.parametrize(("facts", "context", "calls", "key", "value", "expected"), KV)
def test_the_cache_is_layers_times_heads_times_widths_times_tokens(
    facts: dict[str, object], context: int, calls: int, key: float, value: float, expected: int
) -> None:
    found = sizing.estimate(demand(context, calls, key, value), Shape.of(facts))
    assert found.parts[1].bytes == Range(expected, expected, expected)
    assert found.total.likely == GIB + expected + 10 * MIB
    assert f"{calls} call" in found.parts[1].text


def test_a_window_lowers_the_least_and_not_the_most() -> None:
    cache = sizing.estimate(demand(32_768, 1), Shape.of(MISTRAL)).parts[1].bytes
    assert (cache.low, cache.likely) == (GIB // 2, 4 * GIB)


def test_what_files_do_not_say_is_guessed_and_said_so() -> None:
    found = sizing.estimate(demand(4096, 1), Shape.of({"layers": 32}))
    assert (found.total.low, found.total.likely) == (GIB, round(1.2 * GIB) + 10 * MIB)
    assert "guessed" in found.parts[1].text


def estimate(low: int, likely: int, high: int, part: float = 1.0) -> Estimate:
    return Estimate((sizing.Part("all", Range(low, likely, high), ""),), Range(low, likely, high), part)


FITS = [
    (estimate(1 * GIB, 2 * GIB, 3 * GIB), 4, Fit.FITS),
    (estimate(1 * GIB, 2 * GIB, 3 * GIB), 2, Fit.FITS),
    (estimate(1 * GIB, 5 * GIB, 6 * GIB), 4, Fit.TIGHT),
    (estimate(5 * GIB, 5 * GIB, 6 * GIB), 4, Fit.NO),
    (estimate(73 * GIB, 73 * GIB, 73 * GIB, part=0.9), 80, Fit.NO),
    (estimate(71 * GIB, 71 * GIB, 73 * GIB, part=0.9), 80, Fit.FITS),
]


@pytest.mark.parametrize(("found", "memory_gib", "expected"), FITS)
def test_it_fits_if_the_likely_sum_does_and_is_tight_down_to_the_least(
    found: Estimate, memory_gib: int, expected: Fit
) -> None:
    assert sizing.fit(found, memory_gib) == expected


def test_a_peak_with_the_same_options_takes_the_formula_s_place() -> None:
    found = estimate(1 * GIB, 2 * GIB, 3 * GIB)
    told = sizing.corrected(found, peak=int(1.5 * GIB), of=found)
    assert (told.total.low, told.total.likely, told.measured_as_it_is) == (int(1.5 * GIB), int(1.5 * GIB), True)
    assert told.sum == found.sum, "the parts stay what the formula says"


def test_a_peak_with_other_options_adds_what_the_formula_left_out() -> None:
    small, large = estimate(GIB, GIB, GIB), estimate(3 * GIB, 3 * GIB, 3 * GIB)
    told = sizing.corrected(large, peak=int(1.25 * GIB), of=small)
    assert told.total.likely == int(3.25 * GIB)
    assert told.total.low < told.total.likely < told.total.high
    assert not told.measured_as_it_is


def test_a_million_tokens_cost_what_the_seconds_for_them_cost() -> None:
    assert sizing.per_million_tokens(Decimal("0.001"), Decimal(500)) == Decimal(2)
    assert sizing.per_million_tokens(Decimal("0.001"), None) is None


def test_llama_cpp_s_own_sum_holds_what_was_measured_for_smollm2() -> None:
    """Measured with xllamacpp 2026.10: the process's peak after one short call, in KiB."""
    engine = choose("llama_cpp")
    load = Load(98_362_432, SMOLLM2, Shape.of(SMOLLM2))
    for options, peak_kib in (
        ({"context_tokens": 8192, "slots": 1}, 338_768),
        ({"context_tokens": 2048, "slots": 1}, 200_488),
    ):
        found = sizing.estimate(engine.demand(load, options), load.shape).total
        assert found.low < peak_kib * 1024 < found.high
        assert abs(found.likely / (peak_kib * 1024) - 1) < 0.1


def test_vllm_counts_parameters_in_the_numbers_that_it_loads_them_as() -> None:
    engine = choose("vllm")
    count = LLAMA_8B["parameters"]
    for said, options, expected in (
        ({"dtype_bytes": 2}, {}, 2 * count),
        ({"dtype_bytes": 4}, {}, 2 * count),
        ({"dtype_bytes": 4}, {"dtype": "float32"}, 4 * count),
        ({"dtype_bytes": 2}, {"quantization": "fp8"}, count),
        ({"dtype_bytes": 2, "quantization": "awq"}, {}, 5 * GIB),
    ):
        load = Load(5 * GIB, LLAMA_8B | said, Shape.of(LLAMA_8B), gpus=1)
        assert engine.demand(load, {"context_tokens": 8192, "slots": 8} | options).weights == expected
