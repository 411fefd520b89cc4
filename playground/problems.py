"""What can end an answer, in plain words: what it is, what the gateway said, what to do, and where."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse


@dataclass(frozen=True, slots=True)
class _Words:
    """`page` is the name of a URL where something can be done about it."""

    title: str
    todo: str = ""
    page: str = ""
    label: str = ""


WORDS = {
    "insufficient_quota": _Words(
        "The budget leaves no room", "Nothing was called. Whoever keeps the budgets can raise it.", "budget-list",
        "Budgets",
    ),
    "not_licensed": _Words(
        "Your team has not agreed to its licence, or denies it", "Nothing was called.", "licences", "Licences"
    ),
    "provider_key_missing": _Words(
        "This provider has no key here", "Nothing was called. Pick another model, or ask an administrator to set one."
    ),
    "deployment_not_ready": _Words(
        "It did not wake in time", "It goes on starting: ask again in a moment.", "deployment-list", "Deployments"
    ),
    "deployment_failed": _Words("It has failed", "Its page shows the log and what to do.", "deployment-list",
                                "Deployments"),
    "model_not_found": _Words("There is no such model", "Pick another one.", "model-list", "Models"),
    "context_length_exceeded": _Words("Too long for this model", "Shorten the conversation, or lower max tokens."),
    "rate_limit_exceeded": _Words("Too much at once", "Wait a moment, then ask again.", "limits", "Limits"),
    "upstream_error": _Words("The model's side failed", "Ask again. What came before it broke off is billed, a call "
                             "that failed before its first word is not."),
    "store_unavailable": _Words("The portal's database is away", "Try again soon."),
    "price_unknown": _Words("It has no price", "What has no price is not called. An administrator can set one."),
    "process_gone": _Words("It was cut off", "Ask again for another answer."),
    "internal_error": _Words("Something went wrong", "Try again."),
    "not_found": _Words("It is not here", "It never reached the portal, or a day has passed. Ask again."),
    "signed_out": _Words("You are signed out", "Sign in again: this page keeps what stands in it.", "account_login",
                         "Sign in"),
    "other_team": _Words("Another team would be billed", "Nothing was called. Load the page again to go on there, or "
                         "change the team back."),
    "not_allowed": _Words("Not in your role"),
}  # fmt: skip
OTHERWISE = _Words("It was refused", "Change what it names, and ask again.")


def explained(code: str, message: str) -> dict[str, Any]:
    words = WORDS.get(code, OTHERWISE)
    return {
        "code": code,
        "title": words.title,
        "message": message,
        "todo": words.todo,
        "href": reverse(words.page) if words.page else "",
        "label": words.label,
    }
