"""The name of a failure and the line that says it, from real engines' words."""

import pytest

from deployments import causes
from deployments.lifecycle import NEXT_STEPS, Reason

LINES = [
    ("ggml_aligned_malloc: insufficient memory (attempted to allocate 98304.00 MB)", 1, Reason.OUT_OF_MEMORY),
    ("terminate called after throwing an instance of 'std::bad_alloc'", -6, Reason.OUT_OF_MEMORY),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", 1, Reason.OUT_OF_MEMORY),
    ("llama_kv_cache_init: failed to allocate buffer for kv cache", 1, Reason.OUT_OF_MEMORY),
    ("OSError: [Errno 28] No space left on device", 1, Reason.DISK_FULL),
    ("llama_host.py: error: unrecognized arguments: --turbo", 2, Reason.BAD_OPTION),
    ("gguf_init_from_file_impl: invalid magic characters: 'PK', expected 'GGUF'", 1, Reason.BAD_WEIGHTS),
    ("llama_model_load: error loading model: tensor 'x' data is not within the file bounds", 1, Reason.BAD_WEIGHTS),
    ("llama_model_load: error loading model: unknown model architecture: 'zeta'", 1, Reason.BAD_WEIGHTS),
    ("srv load_model: failed to load model, '/w/broken.gguf'", 1, Reason.BAD_WEIGHTS),
    ("the engine could not be started: [Errno 2] No such file", 127, Reason.BACKEND_REFUSED),
    ("it was a dark and stormy night", 3, Reason.NONE),
]


@pytest.mark.parametrize(("line", "code", "reason"), LINES)
def test_the_line_that_says_it_is_the_evidence(line: str, code: int, reason: Reason) -> None:
    found = causes.of_exit(code, ["loading", line, "bye"])
    assert found.reason == reason
    assert line in found.evidence
    assert (found.evidence.splitlines()[0] == line) == (reason != Reason.NONE)


def test_a_kill_that_nobody_sent_is_the_kernels_for_want_of_memory() -> None:
    assert causes.of_exit(-9, ["loading"]).reason == Reason.OUT_OF_MEMORY
    assert causes.of_exit(-11, ["loading"]).reason == Reason.NONE


def test_an_engine_that_says_nothing_is_told_by_its_exit() -> None:
    assert "signal 11" in causes.of_exit(-11, []).evidence
    assert causes.of_exit(None, []).evidence


def test_weights_larger_than_the_memory_are_told_with_both_numbers() -> None:
    found = causes.too_large(5 * 1024**3, 4)
    assert found
    assert "5,368,709,120" in found.evidence
    assert "4 GiB" in found.evidence
    assert causes.too_large(1024, 4) is None


def test_each_named_cause_has_a_next_step() -> None:
    assert {reason for _, _, reason in LINES if reason} | {Reason.NO_CAPACITY, Reason.START_TIMEOUT} <= set(NEXT_STEPS)
