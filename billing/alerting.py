"""Telling people and programs that a budget is running out, once for each percentage and period; and getting it there:
every message is a row that is tried again with growing pauses, by a sweep, until it arrives or is given up.
"""

import http.client
import json
import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from accounts import sealing
from accounts.models import Membership, Team
from accounts.roles import KEEPERS
from billing import budgets, credits, money, webhooks
from billing.budgets import Standing
from billing.errors import BillingError
from billing.models import AlertSettings, Budget, BudgetAlert, Delivery

log = logging.getLogger(__name__)

TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=6)
# How long another worker leaves alone what one is sending.
CLAIMED_FOR = timedelta(seconds=60)
BATCH = 50


def look(*, now: datetime | None = None) -> int:
    """Look at every budget and queue what is to be told; how many percentages were reached anew."""
    moment = now or timezone.now()
    credits.refresh_all(now=moment)
    return sum(_tell(team, moment) for team in Team.objects.filter(pk__in=Budget.objects.values("team")))


def deliver(*, now: datetime | None = None) -> int:
    """Send what is due; how many arrived. A message is sent again only when it is not known to have arrived."""
    return sum(_send(row) for row in _claimed(now or timezone.now()))


def test(team: Team) -> list[Delivery]:
    """Send a test to every address of the team at once, and only once; with what came of it."""
    body = {"type": "test", "team": team.slug, "text": "This is a test of Modelport's budget alerts."}
    rows = _queued(team, "A test of budget alerts", str(body["text"]), body, due_at=None)
    for row in rows:
        _send(row, again=False)
    return rows


def new_secret(team: Team) -> str:
    """Make the webhook's secret anew and show it once; what is signed from now on is signed with it."""
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    AlertSettings.objects.update_or_create(team=team, defaults={"sealed_secret": sealing.seal(secret)})
    return secret


def recipients(team: Team, settings: AlertSettings | None) -> list[str]:
    """The addresses that were chosen, else the people who keep the team's money."""
    if settings and settings.emails:
        return list(settings.emails)
    members = Membership.objects.filter(team=team, role__in=KEEPERS, user__is_active=True)
    return list(members.order_by("user__email").values_list("user__email", flat=True))


def _tell(team: Team, now: datetime) -> int:
    """One message for each budget, about the highest percentage; all that were passed are remembered."""
    told = 0
    for standing in budgets.standings(team, now=now):
        passed = [percent for percent in standing.budget.alert_percents if standing.percent >= percent]
        if not passed:
            continue
        with transaction.atomic():
            fresh = [percent for percent in sorted(passed) if _is_new(standing, percent)]
            if fresh:
                _queued(team, *_written(team, standing, fresh[-1]), due_at=now)
        told += len(fresh)
    return told


def _is_new(standing: Standing, percent: int) -> bool:
    _, made = BudgetAlert.objects.get_or_create(
        budget=standing.budget, period=standing.period, percent=percent, defaults={"spent": standing.settled}
    )
    return made


def _written(team: Team, standing: Standing, percent: int) -> tuple[str, str, dict[str, object]]:
    """Subject, text, and the same for programs; amounts are exact there."""
    budget = standing.budget
    subject = f"{percent} % of the budget for {budget.whose} is spent ({team.name})"
    effect = (
        "Calls that would pass it are refused, and deployments go to sleep before they do."
        if budget.hard
        else "It is a soft budget: nothing is refused."
    )
    text = (
        f"{money.dollars(standing.settled)} of {money.dollars(standing.limit)} {budget.how_long} are spent by "
        f"{budget.whose} of {team.name}, tokens and compute together.\n{effect}\n"
    )
    body: dict[str, object] = {
        "type": "budget.reached",
        "team": team.slug,
        "percent": percent,
        "scope": budget.scope,
        "subject": budget.subject,
        "label": budget.label,
        "period": budget.period,
        "begins": standing.begins.isoformat(),
        "ends": standing.ends.isoformat(),
        "hard": budget.hard,
        "spent_usd": money.plain(standing.settled),
        "held_usd": money.plain(standing.held),
        "limit_usd": money.plain(standing.limit),
        "text": text.strip(),
    }
    return subject, text, body


def _queued(
    team: Team, subject: str, text: str, body: Mapping[str, object], *, due_at: datetime | None
) -> list[Delivery]:
    settings = AlertSettings.objects.filter(team=team).first()
    common = {"team": team, "subject": subject[:200], "due_at": due_at}
    rows = [
        Delivery(channel=Delivery.Channel.EMAIL, address=address, body=text, **common)
        for address in recipients(team, settings)
    ]
    if settings and settings.webhook_url:
        key = uuid4()
        said = json.dumps({"id": str(key), "at": timezone.now().isoformat(), **body}, ensure_ascii=False)
        rows.append(
            Delivery(id=key, channel=Delivery.Channel.WEBHOOK, address=settings.webhook_url, body=said, **common)
        )
    return Delivery.objects.bulk_create(rows)


def _claimed(now: datetime) -> list[Delivery]:
    with transaction.atomic():
        due = Delivery.objects.filter(due_at__lte=now).order_by("due_at").select_for_update(skip_locked=True)
        rows = list(due[:BATCH])
        Delivery.objects.filter(pk__in=[row.pk for row in rows]).update(due_at=now + CLAIMED_FOR)
    return rows


def _send(row: Delivery, *, again: bool = True) -> bool:
    """Try once, outside any transaction, and write down what came of it."""
    row.attempts += 1
    try:
        row.outcome = _sent(row)[:200]
        row.delivered_at, row.due_at = timezone.now(), None
    except (OSError, http.client.HTTPException, BillingError, ValueError) as error:
        row.outcome = (str(error) or type(error).__name__)[:200]
        row.due_at = timezone.now() + _pause(row.attempts) if again and row.attempts < TRIES else None
        log.warning("an alert to %s did not arrive: %s", row.address, row.outcome)
    row.save(update_fields=["attempts", "outcome", "delivered_at", "due_at"])
    return row.delivered_at is not None


def _pause(attempts: int) -> timedelta:
    return min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)


def _sent(row: Delivery) -> str:
    if row.channel == Delivery.Channel.EMAIL:
        EmailMessage(row.subject, row.body, to=[row.address]).send()
        return "handed to the mail server"
    settings = AlertSettings.objects.filter(team=row.team_id).first()
    secret = sealing.unseal(settings.sealed_secret) if settings else ""
    return webhooks.send(row.address, row.body, secret=secret, delivery=str(row.pk), at=int(timezone.now().timestamp()))
