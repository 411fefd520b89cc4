"""What a team may put into its engine's environment. Pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from deployments.errors import BadOption

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
MOST, LONGEST = 64, 32_768
# What loads code, finds programs and files, or is the portal's or the engine's own to decide.
REFUSED_BEGINNINGS = MappingProxyType(
    {
        "LD_": "it makes the loader run other code",
        "DYLD_": "it makes the loader run other code",
        "PYTHON": "it makes Python run other code",
        "BASH_": "it makes a shell run other code",
        "PERL": "it makes Perl run other code",
        "RUBY": "it makes Ruby run other code",
        "NODE_": "it makes Node run other code",
        "JAVA_": "it makes Java run other code",
        "GCONV": "it makes the C library load other code",
        "GLIBC_": "it changes the C library",
        "MALLOC_": "it changes the C library",
        "OPENSSL_": "it changes what is trusted",
        "SSL": "it changes what is trusted",
        "OMP_TOOL": "it makes OpenMP load other code",
        "CUDA_": "the hardware is the portal's to give",
        "NVIDIA_": "the hardware is the portal's to give",
        "HIP_": "the hardware is the portal's to give",
        "NCCL_": "the network is the portal's to give",
        "GLOO_": "the network is the portal's to give",
        "TORCH": "it makes the engine run other code",
        "TRITON_": "it makes the engine run other code",
        "VLLM_": "it is set by options",
        "LLAMA_": "it is set by options",
        "GGML_": "it is set by options",
        "MODELPORT_": "it is the portal's own",
    }
)
REFUSED = frozenset(
    {
        "PATH", "HOME", "SHELL", "ENV", "IFS", "PWD", "TMPDIR", "TMP", "TEMP", "USER", "LOGNAME", "HOSTALIASES",
        "LOCPATH", "NLSPATH", "RES_OPTIONS", "TERMINFO", "CC", "CXX", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    }
)  # fmt: skip


def check(env: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Or BadOption that names the name, never a value."""
    if len(env) + len(secrets) > MOST:
        raise BadOption("env", f"An engine takes {MOST} variables, secrets among them, and these are more")
    for field, given in (("env", env), ("secrets", secrets)):
        for name, value in given.items():
            _check_name(field, name)
            if not isinstance(value, str) or len(value) > LONGEST or "\0" in value:
                raise BadOption(field, f"{name} takes a text of at most {LONGEST} characters, without NUL")
    if both := sorted(set(env) & set(secrets)):
        raise BadOption("secrets", f"{both[0]} is among the variables and the secrets: give it once")


def _check_name(field: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadOption(field, "A variable's name has 1 to 100 of A-Z, 0-9 and _, and does not begin with a digit")
    loud = name.upper()
    for beginning, why in REFUSED_BEGINNINGS.items():
        if loud.startswith(beginning):
            raise BadOption(field, f"{name} can't be set: {why}")
    if loud in REFUSED:
        raise BadOption(field, f"{name} can't be set: it is the portal's to decide")
