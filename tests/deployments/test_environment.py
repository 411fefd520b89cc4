"""What a team may put into an engine's environment."""

import pytest

from deployments import environment
from deployments.errors import BadOption

BAD_NAMES = [
    "LD_PRELOAD", "ld_preload", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "path", "HOME", "BASH_ENV",
    "VLLM_API_KEY", "VLLM_PLUGINS", "CUDA_VISIBLE_DEVICES", "MODELPORT_CHAT_TEMPLATE", "GLIBC_TUNABLES", "HTTPS_PROXY",
    "OMP_TOOL_LIBRARIES", "", "1A", "A-B", "A B", "A=B", "Ä", "A" * 101, "A\n", "A\0",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("field", ["env", "secrets"])
def test_a_dangerous_or_broken_name_is_refused_without_its_value(name: str, field: str) -> None:
    with pytest.raises(BadOption) as told:
        environment.check(**{"env": {}, "secrets": {}} | {field: {name: "s3cr3t"}})
    assert told.value.option == field
    assert "s3cr3t" not in str(told.value)


BAD_VALUES = [({"A": "x\0"}, {}), ({"A": "x" * 40_000}, {}), ({}, {"A": 7}), ({"A": "1"}, {"A": "2"})]
BAD_VALUES.append(({f"A{n}": "" for n in range(40)}, {f"B{n}": "x" for n in range(40)}))


@pytest.mark.parametrize(("env", "secrets"), BAD_VALUES)
def test_values_are_texts_and_names_stand_once(env: dict[str, str], secrets: dict[str, str]) -> None:
    with pytest.raises(BadOption):
        environment.check(env, secrets)


def test_others_are_taken() -> None:
    environment.check({"OMP_NUM_THREADS": "2", "my_name": ""}, {"HF_TOKEN": "ä\n=1"})
