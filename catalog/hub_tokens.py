"""A team's token for the Hub: tried before it is kept, encrypted at rest, shown to nobody."""

from django.db import transaction

from accounts import audit, sealing
from accounts.models import Team
from catalog.errors import Refused
from catalog.huggingface import TOKEN, Hub
from catalog.models import HubToken


def of(team: Team) -> str:
    """The token itself, for a question to the Hub; empty if the team has none. Never log it."""
    row = HubToken.objects.filter(team=team).first()
    return sealing.unseal(row.sealed_token) if row else ""


def keep(team: Team, token: str, *, actor: str) -> HubToken:
    """In the place of the one before. The Hub says whose it is; Refused if it does not know it."""
    token = token.strip()
    if not TOKEN.fullmatch(token):
        raise Refused("This is no token: one has no spaces and at least 8 letters.", code="bad_token", field="token")
    account = Hub(token).account()
    with transaction.atomic():
        before = dict(HubToken.objects.filter(team=team).values("account").first() or {})
        row, _ = HubToken.objects.update_or_create(
            team=team, defaults={"sealed_token": sealing.seal(token), "account": account, "set_by": actor}
        )
        audit.record(
            team, actor=actor, verb="set the Hub token of", subject=account, before=before, after={"account": account}
        )
    return row


def forget(team: Team, *, actor: str) -> None:
    """Twice changes nothing."""
    with transaction.atomic():
        row = HubToken.objects.filter(team=team).first()
        if row:
            row.delete()
            before = {"account": row.account}
            audit.record(team, actor=actor, verb="removed the Hub token of", subject=row.account, before=before)
