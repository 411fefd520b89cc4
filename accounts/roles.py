"""The roles in words, and who may do what: the one place where each app looks."""

from dataclasses import dataclass

from accounts.models import Membership, Role

# Who deploys, makes keys, calls models, brings weights; who manages the team; who keeps its money.
MAKERS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
MANAGERS = frozenset({Role.OWNER, Role.ADMIN})
KEEPERS = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
# Who looks after it: they read what it costs over all the teams where they do.
COUNTERS = KEEPERS | {Role.ACCOUNTANT}


@dataclass(frozen=True, slots=True)
class Words:
    """What a role may do, and what not, as people read it where they give it."""

    may: str
    may_not: str = ""


WORDS = {
    Role.OWNER: Words("Everything: members and owners, the team's settings, keys, deployments, budgets."),
    Role.ADMIN: Words("Members, keys, deployments, settings, budgets and the audit log.", "Can't change owners."),
    Role.DEVELOPER: Words(
        "Deploys, makes keys, calls models, brings weights; sees costs.", "Can't change members, settings or budgets."
    ),
    Role.BILLING: Words(
        "Sees costs and downloads statements; sets budgets and who gets invoices.",
        "Can't deploy, call models or make keys.",
    ),
    Role.ACCOUNTANT: Words(
        "Billing, read only: sees costs, budgets and invoices, takes their files, compares several teams.",
        "Changes nothing: sets no budget, calls nothing, reads no prompts.",
    ),
    Role.VIEWER: Words(
        "Looks at everything, costs and statements too.", "Changes nothing, calls nothing, reads no prompts."
    ),
}


def grantable(by: Membership) -> list[Role]:
    """The roles that this member may give: an owner any, an admin any but owner, others none."""
    match by.role:
        case Role.OWNER:
            return list(Role)
        case Role.ADMIN:
            return [role for role in Role if role != Role.OWNER]
    return []


def may_manage(by: Membership, role: str) -> bool:
    """May this member change or remove one who has `role`?"""
    return role in grantable(by)
