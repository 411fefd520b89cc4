"""What a key may be used for, in words, and which of the management API's routes ask for which scope."""

from accounts.models import Scope

WORDS = {
    Scope.MODELS: "Calls models: everything under /v1, and the library.",
    Scope.DEPLOYMENTS: "Deploys, changes and stops deployments; weights, uploads, prompt sets.",
    Scope.BILLING: "Reads usage, statements and budgets.",
    Scope.MANAGE: "The team's own, in your name: members, keys, aliases, the audit log; and what has no other scope.",
}

# The first word of a path after /api/v1/.
OF_ROUTES = {
    "models": Scope.MODELS,
    "advice": Scope.MODELS,
    "deployments": Scope.DEPLOYMENTS,
    "prompt-sets": Scope.DEPLOYMENTS,
    "weights": Scope.DEPLOYMENTS,
    "usage": Scope.BILLING,
    "statements": Scope.BILLING,
    "budgets": Scope.BILLING,
    "invoices": Scope.BILLING,
    "aliases": Scope.MANAGE,
    "licences": Scope.MANAGE,
    "audit": Scope.MANAGE,
    "members": Scope.MANAGE,
    "invitations": Scope.MANAGE,
    "keys": Scope.MANAGE,
}


def of_path(path: str) -> Scope:
    """The scope that a request to this path needs; a route that is not listed needs `manage`."""
    word = path.removeprefix("/api/v1/").split("/", 1)[0]
    return OF_ROUTES.get(word, Scope.MANAGE)


def lacking(scopes: list[str], needed: str) -> str:
    """Why a key with these scopes is refused."""
    has = ", ".join(scopes) or "none"
    return (
        f"This key's scopes ({has}) don't hold `{needed}`, which this needs. "
        "Give it that scope on the Keys page, or use another key."
    )
