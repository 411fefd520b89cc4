"""The name of a failure and the line that says it, from real engines' words."""

import ast
from pathlib import Path

import pytest

from deployments import causes, remedies
from deployments.lifecycle import FURTHER_STEPS, NEXT_STEPS, Reason, Step

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


def test_each_reason_to_fail_for_has_a_next_step_that_can_be_pressed() -> None:
    failing = {reason for reason, _ in causes.SIGNS} | causes.FINAL | _said_with_failed()
    assert {Reason.NO_CAPACITY, Reason.NO_WORKER, Reason.START_TIMEOUT, Reason.CRASH_LOOP} <= failing
    assert failing <= set(NEXT_STEPS), failing - set(NEXT_STEPS)
    for reason in failing:
        step, text = NEXT_STEPS[reason]
        assert step in Step
        assert text.endswith(".")
        assert set(FURTHER_STEPS.get(reason, ())) <= set(Step) - {step}
        assert {step, *FURTHER_STEPS.get(reason, (Step.LOG,))} & {*remedies.DONE_HERE, Step.SETTINGS, Step.LOG}


def _said_with_failed() -> set[Reason]:
    """Every Reason.X that the code writes in one call with Status.FAILED: Move(Status.FAILED, Reason.NO_WORKER)."""
    found = set()
    for path in Path(causes.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and "FAILED" in _named(node.args[0], "Status"):
                found |= {Reason[name] for name in _named(node, "Reason")}
    return found


def _named(node: ast.AST, of: str) -> set[str]:
    parts = (one for one in ast.walk(node) if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name))
    return {one.attr for one in parts if isinstance(one.value, ast.Name) and one.value.id == of}
