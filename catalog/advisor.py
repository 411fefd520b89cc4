"""Which path is open, and why. Pure: it knows the model's facts and nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathState:
    """`is_open` and, either way, the reason in plain words."""

    is_open: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    openness: str
    publisher: str
    provider_name: str
    provider_has_key: bool
    is_hosted: bool
    has_weights: bool
    hardware_offered: bool
    weights_coming: bool = False


def hosted(facts: Facts) -> PathState:
    """May it be called, hosted, now?"""
    if facts.openness == "own-weights":
        return PathState(False, "not possible: your own weights, nobody else serves them")
    if not facts.is_hosted:
        return PathState(False, "no provider in this portal serves it")
    if not facts.provider_has_key:
        return PathState(
            False,
            f"{facts.provider_name} has no key set on this portal, so it can be seen but not called. "
            "An administrator can set it.",
        )
    return PathState(True, f"served by {facts.provider_name}")


def deployable(facts: Facts) -> PathState:
    """May it be deployed, serverless, now?"""
    if facts.openness == "closed":
        return PathState(False, "not possible: closed weights")
    if not facts.has_weights:
        return PathState(False, "open weights, but they are not on this portal yet")
    if not facts.hardware_offered:
        return PathState(False, "no backend of this portal offers hardware that fits")
    if facts.weights_coming:
        return PathState(True, "its weights are on their way: what is deployed now starts once they are here")
    return PathState(True, "open weights, ready to run here")


def sentence(facts: Facts, name: str) -> str:
    """The paths of a model in one sentence."""
    match facts.openness:
        case "closed":
            return f"{name} has closed weights: only {facts.publisher} decides where it runs, so it can only be hosted."
        case "own-weights":
            return f"{name} is your own: it can only be deployed."
        case _ if deployable(facts).is_open and hosted(facts).is_open:
            return f"{name} has open weights: both paths are open. Hosted bills each token, deployed each second awake."
        case _:
            return f"{name} has open weights: it may be hosted by anyone or deployed by you."
