"""Does an engine really answer? One short prompt through its own address, before it takes anybody's calls."""

import httpx

from accounts import sealing
from deployments import engines
from deployments.models import Replica

PROBE_TIMEOUT_S = 60.0


def problem_with(replica: Replica) -> str:
    """Empty if it answered; else what it said instead."""
    what = replica.version or replica.deployment
    path, body = engines.choose(what.engine).probe(what.options)
    headers = {"authorization": f"Bearer {sealing.unseal(replica.sealed_key)}"}
    try:
        answer = httpx.post(
            f"{replica.address}{path}",
            json=body,
            headers=headers,
            timeout=PROBE_TIMEOUT_S,
            trust_env=False,
        )
        told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return f"It did not answer a real prompt: {type(error).__name__} {error}".strip()
    answered = isinstance(told, dict) and (told.get("choices") or told.get("data"))
    if answer.status_code != httpx.codes.OK or not answered:
        return f"It answered a real prompt with {answer.status_code}: {answer.text[:500]}"
    return ""
