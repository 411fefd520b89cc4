"""Budgets over both meters: no calls pass a hard one together, whatever it is about; those who should hear of it do."""

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail

from accounts.models import Role, Team
from billing import alerting, budgets, credits, metering, webhooks
from billing.batching import Batcher, conninfo_from_settings
from billing.budgets import Ask
from billing.errors import BadAddress, BudgetSpent
from billing.models import AlertSettings, Budget, BudgetAlert, Counter, Delivery, LedgerEntry, Reservation, Spend
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, budget, call, settlement

D = Decimal
NOW = datetime.now(UTC)
KEY = uuid4()
SCOPES = {"team": "", "key": str(KEY), "deployment": "chat", "alias": "acme/main"}
NAMES: dict[str, Any] = {"api_key_id": KEY, "deployment_name": "chat", "alias": "acme/main"}
DEAR = {"tokens.input": D("0.001"), "tokens.output": D("0.001")}


def cap(team: Team, scope: str, period: str, usd: str, **more: Any) -> Budget:
    window = {"starts_at": NOW - timedelta(hours=1), "ends_at": NOW + timedelta(hours=1)} if period == "fixed" else {}
    return Budget.objects.create(
        team=team, scope=scope, subject=SCOPES[scope], period=period, usd=D(usd), **window, **more
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("period", ["monthly", "fixed"])
@pytest.mark.parametrize("scope", list(SCOPES))
def test_calls_at_once_never_pass_a_hard_budget_together(scope: str, period: str) -> None:
    team, other = TeamFactory(), TeamFactory()
    cap(team, scope, period, "1.00")
    outcomes = asyncio.run(_storm(team, other))
    assert {type(one) for one in outcomes} == {type(None), BudgetSpent}
    spent = {row.team_id: row.settled for row in Spend.objects.all()}
    assert D("0.7") < spent[team.pk] <= 1
    assert spent[other.pk] > 1, "another team with the same names has its own counters"
    assert not Spend.objects.exclude(held=0).exists()
    assert not Counter.objects.exclude(held=0).exists()
    for row in Counter.objects.filter(period__startswith="2"):
        assert row.settled == spent[row.team_id]
    if period == "fixed":
        counter = Counter.objects.get(period__startswith="budget")
        assert counter.settled == spent[team.pk]


async def _storm(team: Team, other: Team) -> list[Any]:
    """Each call holds 0.03 and uses all of it; some are voided."""
    batchers = [Batcher(conninfo_from_settings()) for _ in range(2)]
    for batcher in batchers:
        await batcher.start()

    async def one(number: int) -> None:
        batcher = batchers[number % 2]
        made = call([team, other][number // 2 % 2], prices=DEAR, started_at=NOW, most={"tokens.output": D(30)}, **NAMES)
        await batcher.reserve(made)
        await asyncio.sleep(number % 5 / 300)
        if number % 9 == 0:
            await batcher.void(made.id)
        else:
            await batcher.settle(settlement(made, {"tokens.output": 30}))

    outcomes = await asyncio.gather(*(one(number) for number in range(240)), return_exceptions=True)
    for batcher in batchers:
        await batcher.close()
    return list(outcomes)


@pytest.mark.django_db
def test_a_budget_is_only_about_its_own_and_a_soft_one_refuses_nothing() -> None:
    team = TeamFactory()
    cap(team, "deployment", "monthly", "0.01")
    cap(team, "alias", "monthly", "0.01", hard=False)
    cap(team, "key", "fixed", "0.01")
    asked = {"prices": DEAR, "started_at": NOW, "most": {"tokens.output": D(30)}}
    metering.reserve(call(team, deployment_name="other", alias="acme/main", **asked))
    metering.reserve(call(team, api_key_id=KEY, **asked | {"started_at": NOW - timedelta(hours=2)}))
    with pytest.raises(BudgetSpent, match=r"^This month's budget of \$0.01 for the deployment chat leaves no room"):
        metering.reserve(call(team, deployment_name="chat", **asked))
    with pytest.raises(BudgetSpent, match=r"^The budget of \$0.01 for the key"):
        metering.reserve(call(team, api_key_id=KEY, **asked))
    assert Reservation.objects.count() == 2


@pytest.mark.django_db
def test_a_call_that_was_let_in_before_a_fixed_budget_was_made_leaves_its_hold_alone() -> None:
    team = TeamFactory()
    made = call(team, prices=DEAR, started_at=NOW)
    metering.reserve(made)
    cap(team, "team", "fixed", "100")
    metering.settle(settlement(made))
    counter = Counter.objects.get(period__startswith="budget")
    assert (counter.held, counter.settled) == (0, D("0.12"))


@pytest.mark.django_db
def test_compute_and_tokens_count_against_one_cap() -> None:
    team = TeamFactory()
    cap(team, "deployment", "monthly", "1.00")
    metering.record_compute(
        replica_id=uuid4(), team=team, sku="compute:cpu", source="t/chat", model_name="M", deployment_name="chat",
        prices={"compute.seconds": D("0.01")}, started_at=NOW, ended_at=NOW + timedelta(seconds=90),
    )  # fmt: skip
    with pytest.raises(BudgetSpent):
        metering.reserve(
            call(team, deployment_name="chat", prices=DEAR, started_at=NOW, most={"tokens.output": D(101)})
        )
    metering.reserve(call(team, deployment_name="chat", prices=DEAR, started_at=NOW, most={"tokens.output": D(100)}))
    (standing,) = budgets.standings(team, now=NOW)
    assert (standing.settled, standing.held, standing.left) == (D("0.9"), D("0.1"), 0)
    assert budgets.refused([Ask(team.pk, "chat", D("0.001"))], now=NOW)
    assert not budgets.refused([Ask(team.pk, "another", D(5))], now=NOW)


@pytest.mark.django_db
def test_credits_widen_a_hard_budget_and_an_expired_one_no_longer_does() -> None:
    team = TeamFactory()
    budget(team, "0.10")
    ends = NOW + timedelta(hours=1)
    credits.grant(team, name="hello", usd=D(1), actor="a", starts_at=NOW - timedelta(hours=1), expires_at=ends)
    metering.reserve(call(team, prices=DEAR, started_at=NOW, most={"tokens.output": D(900)}))
    with pytest.raises(BudgetSpent):
        metering.reserve(call(team, prices=DEAR, started_at=ends, most={"tokens.output": D(1)}))


@pytest.mark.django_db
def test_each_percentage_is_told_once_a_period_by_mail_and_a_signed_webhook(settings: Any) -> None:
    settings.PRIVATE_WEBHOOKS = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    team = TeamFactory(name="Acme")
    owner = MembershipFactory(team=team, role=Role.OWNER).user
    MembershipFactory(team=team, role=Role.VIEWER)
    cap(team, "team", "monthly", "1.00", alert_percents=[50, 80, 100])
    with heard(statuses=[500, 204, 204]) as (url, requests):
        secret = alerting.new_secret(team)
        AlertSettings.objects.filter(team=team).update(webhook_url=f"{url}/hook?x=1")
        billed(team, {"tokens.output": 850}, prices=DEAR, started_at=NOW, most={})
        assert alerting.look(now=NOW) == 2, "50 and 80 are passed"
        assert alerting.look(now=NOW) == 0
        assert alerting.deliver() == 1, "the mail arrives, the webhook's server fails"
        waiting = Delivery.objects.get(channel="webhook")
        assert (waiting.attempts, waiting.delivered_at, waiting.outcome) == (1, None, "answered with status 500")
        assert waiting.due_at is not None
        assert waiting.due_at > NOW + timedelta(seconds=20)
        assert alerting.deliver() == 0, "not before its pause is over"
        assert alerting.deliver(now=waiting.due_at) == 1
        assert Delivery.objects.filter(delivered_at=None).count() == 0
    assert [message.to for message in mail.outbox] == [[owner.email]]
    assert mail.outbox[0].subject == "80 % of the budget for the team is spent (Acme)"
    path, headers, body = requests[1]
    stamp, _, digest = headers["x-modelport-signature"].partition(",v1=")
    signed = f"{stamp.removeprefix('t=')}.{body}".encode()
    assert digest == hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    said = json.loads(body)
    assert (path, headers["x-modelport-delivery"]) == ("/hook?x=1", said["id"])
    assert (said["percent"], said["spent_usd"], said["limit_usd"]) == (80, "0.85", "1")
    assert BudgetAlert.objects.count() == 2
    assert requests[0][2] == requests[1][2], "what is sent again is the same message"


@pytest.mark.django_db
def test_a_message_that_never_arrives_is_given_up(settings: Any) -> None:
    settings.PRIVATE_WEBHOOKS = True
    team = TeamFactory()
    AlertSettings.objects.create(team=team, webhook_url="http://127.0.0.1:1/", emails=["a@example.com"])
    row = Delivery.objects.create(
        team=team, channel="webhook", address="http://127.0.0.1:1/", subject="s", body="{}", due_at=NOW
    )
    for _ in range(alerting.TRIES):
        row.refresh_from_db()
        assert row.due_at is not None
        alerting.deliver(now=row.due_at)
    row.refresh_from_db()
    assert (row.due_at, row.delivered_at, row.attempts) == (None, None, alerting.TRIES)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://localhost/x", "https://169.254.169.254/latest",
        "https://10.0.0.7/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://u:p@example.com/",
        "ftp://example.com/", "https://", "https://224.0.0.1/", "https://0.0.0.0/", "https://x:99999/",
        "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::1]/", "https://[2001:0:7f00:1::1]/",
    ],
)  # fmt: skip
def test_nothing_is_sent_into_the_portals_own_network(url: str, settings: Any) -> None:
    settings.PRIVATE_WEBHOOKS = False
    with pytest.raises(BadAddress):
        webhooks.check(url)


@contextmanager
def heard(*, statuses: list[int]) -> Iterator[tuple[str, list[tuple[str, Any, str]]]]:
    """A server that answers with these statuses, and what was sent to it."""
    requests: list[tuple[str, Any, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            requests.append((self.path, self.headers, body))
            self.send_response(statuses[len(requests) - 1])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.django_db
def test_the_ledger_stays_right_under_all_of_this() -> None:
    team = TeamFactory()
    for scope in SCOPES:
        cap(team, scope, "monthly", "5")
        cap(team, scope, "fixed", "5")
    billed(team, {"tokens.output": 7}, prices=DEAR, started_at=NOW, most={"tokens.output": D(9)}, **NAMES)
    amounts = set(Counter.objects.values_list("settled", "held"))
    assert amounts == {(D("0.007"), D(0))}
    assert Counter.objects.count() == 3 + 4
    assert LedgerEntry.objects.get().amount == D("0.007")
