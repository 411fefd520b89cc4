"""A provider's file against the ledger: what differs is shown, what agrees is not, what can't be read is refused."""

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.models import Team, User
from billing import corrections, metering, provider_files, reconciliation
from billing.errors import BadFile
from billing.models import LedgerEntry, ProviderImport
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.billing import billed, call, settlement

OPENAI = """start_time,end_time,start_time_iso,num_model_requests,project_id,model,input_tokens,output_tokens,\
input_cached_tokens
1793491200,1793577600,2026-11-01T00:00:00+00:00,3,proj,gpt-x-2026-08-07,1000,200,400
1793491200,1793577600,2026-11-01T00:00:00+00:00,1,proj,gpt-x-2026-08-07,10,5,0
1793577600,1793664000,2026-11-02T00:00:00+00:00,0,proj,,0,0,0
"""
ANTHROPIC = """usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,\
usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,\
usage_output_tokens,web_search_count,inference_geo,speed
2026-11-01,claude-x-4-5-20260101,k,Default,standard,≤ 200k,100,7,3,50,20,0,,
2026-11-02,claude-x-4-5-20260101,k,Default,standard,≤ 200k,5,0,0,0,1,0,,
"""
PRICES = {meter: Decimal("0.000001") for meter in provider_files.ANTHROPIC_METERS.values()}


def said(text: str) -> dict[tuple[str, str, str], Decimal | None]:
    return {(str(row.day), row.model, row.meter): row.quantity for row in provider_files.parse(text).rows}


def made(team: Team, day: int, **quantities: int) -> None:
    billed(
        team, {f"tokens.{name.replace('__', '.')}": many for name, many in quantities.items()},
        started_at=datetime(2026, 11, day, 23, 59, tzinfo=UTC), sku="hosted:claude-x-4.5", source="claude-x-4.5",
        prices=PRICES, estimate={}, most={},
    )  # fmt: skip


def test_an_openai_export_is_read_with_the_cached_part_taken_out_of_the_input() -> None:
    assert said(OPENAI) == {
        ("2026-11-01", "gpt-x-2026-08-07", "tokens.input"): 610,
        ("2026-11-01", "gpt-x-2026-08-07", "tokens.input.cached"): 400,
        ("2026-11-01", "gpt-x-2026-08-07", "tokens.output"): 205,
    }
    assert provider_files.parse(OPENAI).skipped == ("line 4: no model, or nothing used",)


def test_an_anthropic_export_is_read_class_by_class() -> None:
    found = said(ANTHROPIC)
    assert found["2026-11-01", "claude-x-4-5-20260101", "tokens.input.cache_write_1h"] == 3
    assert found["2026-11-01", "claude-x-4-5-20260101", "tokens.input.cached"] == 50
    assert len(found) == 7
    cost = provider_files.parse("usage_date_utc,model,token_type,cost_usd\n2026-11-01,claude-x,input,1.25\n")
    assert [(row.meter, row.quantity, row.cost) for row in cost.rows] == [("", None, Decimal("1.25"))]


@pytest.mark.parametrize(
    ("text", "said_so"),
    [
        ("", "header"),
        ("a,b\n1,2\n", "header"),
        ("date,model,meter,quantity\n", "no row"),
        ("date,model,meter,quantity\n2026-11-01,m,tokens.input,-1\n", "line 2: '-1'"),
        ("date,model,meter,quantity\n2026-11-01,m,tokens.input,NaN\n", "line 2: 'NaN'"),
        ("date,model,meter,quantity\n2026-11-01,m,tokens.input,1e99\n", "line 2"),
        ("date,model,meter,quantity\n2026-11-01,m,tokens.inputs,1\n", "is no meter"),
        ("date,model,meter,quantity\n01.11.2026,m,tokens.input,1\n", "line 2"),
        ("date,model,meter,quantity\n2026-11-01,m,tokens.input,many\n", "line 2"),
        ('date,model,meter,quantity\n2026-11-01,"m\n', "line"),
        ("start_time,model,input_tokens,output_tokens,input_cached_tokens\n1793491200,m,1,1,2\n", "more cached"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, said_so: str) -> None:
    with pytest.raises(BadFile, match=said_so):
        provider_files.parse(text)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("claude-opus-4-5-20251101", "hosted:claude-opus-4.5"),
        ("gpt-5-mini-2025-08-07", "hosted:gpt-5-mini"),
        ("models/gemini-2.5-pro-latest", "gemini-2.5-pro"),
        ("o4-mini", "O4-mini"),
    ],
)
def test_models_are_matched_without_dates_dots_and_case(theirs: str, ours: str) -> None:
    assert provider_files.known_name(theirs) == provider_files.known_name(ours)


@pytest.mark.django_db
def test_where_both_agree_nothing_differs() -> None:
    for team in (TeamFactory(), TeamFactory(time_zone="Asia/Tokyo")):
        made(team, 1, input=50, input__cache_write=0, output=10)
    made(TeamFactory(), 1, input__cache_write=7, input__cache_write_1h=3, input__cached=50)
    made(TeamFactory(), 2, input=5, output=1)
    found = reconciliation.report(reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x"))
    assert found.apart == ()
    assert (found.coverage, found.measured, found.unsure) == (100, 100, ())
    assert len(found.drifts) == 7


@pytest.mark.django_db
def test_drift_is_shown_by_model_and_day_with_the_coverage() -> None:
    team = TeamFactory()
    made(team, 1, input=90, output=20, input__cached=50)
    made(team, 2, input=6, output=1)
    found = reconciliation.report(reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x"))
    apart = {(drift.day, drift.meter): drift.difference for drift in found.apart}
    assert apart == {
        (date(2026, 11, 1), "tokens.input"): -10,
        (date(2026, 11, 1), "tokens.input.cache_write"): -7,
        (date(2026, 11, 1), "tokens.input.cache_write_1h"): -3,
        (date(2026, 11, 2), "tokens.input"): 1,
    }
    assert found.coverage == Decimal("89.2")  # 166 of 186


@pytest.mark.django_db
def test_names_that_differ_are_given_and_unknown_models_are_named() -> None:
    made(TeamFactory(), 1, input=610, input__cached=400, output=205)
    unknown = reconciliation.report(reconciliation.read_in(OPENAI.encode(), filename="o.csv", actor="x"))
    assert (unknown.unknown, unknown.coverage) == (("gpt-x",), 0)
    names = {"gpt-x": "claude-x-4.5"}
    known = reconciliation.report(reconciliation.read_in(OPENAI.encode(), filename="o.csv", actor="x", names=names))
    assert (known.unknown, known.apart, known.coverage) == ((), (), 100)


@pytest.mark.django_db
def test_what_was_estimated_or_not_billed_is_listed_with_its_reason() -> None:
    team = TeamFactory()
    made(team, 1, input=100)
    cut, told, failed, dead = (call(team, started_at=datetime(2026, 11, day, tzinfo=UTC)) for day in (1, 1, 2, 2))
    for one in (cut, told, failed, dead):
        metering.reserve(one)
    used = {"tokens.input": 5, "images.output": 3}
    metering.settle(settlement(cut, used, quality="estimated", raw_usage=None))
    metering.settle(settlement(told, {"tokens.input": 5}, quality="estimated"))
    metering.void(failed.id)
    assert metering.sweep(now=timezone.now() + timedelta(hours=1)) == 1
    found = reconciliation.report(reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x"))
    assert found.measured == 25
    assert {(one.day.day, one.what, " ".join(one.reason.split(" ")[:3])) for one in found.unsure} == {
        (1, "estimated", "cut off before"),
        (1, "estimated", "cut off after"),
        (2, "estimated", "the gateway died"),
        (1, "3 images.output", "not billed: no"),
        (2, "void", "not billed: the"),
    }


@pytest.mark.django_db
def test_what_was_corrected_is_compared_as_it_is_charged_now_and_listed_with_the_reason() -> None:
    team = TeamFactory()
    made(team, 1, input=100, output=25, input__cached=50, input__cache_write=7, input__cache_write_1h=3)
    made(team, 2, input=5, output=1)
    source = reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x")
    assert {drift.difference for drift in reconciliation.report(source).apart} == {5}
    price = Decimal("0.000001")

    def correct(meter: str, quantity: int, reason: str, unit_price: Decimal = price) -> None:
        row = LedgerEntry.objects.get(kind="usage", meter=meter, at__day=1, at__month=11)
        corrections.correct(row, quantity=Decimal(quantity), unit_price=unit_price, reason=reason, actor="a")

    correct("tokens.output", 12, "counted twice")  # made today, whatever the day of the usage
    correct("tokens.output", 20, "counted twice")
    correct("tokens.input.cached", 50, "a wrong price", 2 * price)
    found = reconciliation.report(source)
    assert (found.apart, found.coverage) == ((), 100)
    charged = {drift.meter: drift.charged for drift in found.drifts if drift.day.day == 1}
    assert (charged["tokens.output"], charged["tokens.input.cached"]) == (20 * price, 100 * price)
    assert {(one.day.day, one.events, one.what, one.reason) for one in found.unsure} == {
        (1, 1, "-5 tokens.output", "corrected: counted twice"),
        (1, 1, "the price of tokens.input.cached", "corrected: a wrong price"),
    }
    correct("tokens.input", 0, "a kindness")
    (drift,) = reconciliation.report(source).apart
    assert (drift.ours, drift.theirs, drift.charged) == (0, 100, 0)


@pytest.mark.django_db
def test_the_same_file_twice_is_one_import() -> None:
    first = reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x")
    assert reconciliation.read_in(b"\xef\xbb\xbf" + ANTHROPIC.encode(), filename="b.csv", actor="y").rows == first.rows
    assert reconciliation.read_in(ANTHROPIC.encode(), filename="b.csv", actor="y") == first


@pytest.mark.django_db
def test_only_staff_see_the_pages(client: Client) -> None:
    member = MembershipFactory()
    client.force_login(member.user)
    source = reconciliation.read_in(ANTHROPIC.encode(), filename="a.csv", actor="x")
    assert client.get("/billing/reconciliation/").status_code == 404
    assert client.get(f"/billing/reconciliation/{source.pk}/").status_code == 404
    User.objects.filter(pk=member.user.pk).update(is_staff=True)
    assert client.get("/billing/reconciliation/").status_code == 200
    made(member.team, 1, input=1)
    page = client.get(f"/billing/reconciliation/{source.pk}/").content.decode()
    assert "% of what the provider says was used" in page
    assert client.get(f"/billing/reconciliation/{source.pk}/?rows=all").status_code == 200


@pytest.mark.django_db
def test_a_file_is_read_in_on_the_page_or_refused_in_words(client: Client) -> None:
    client.force_login(MembershipFactory(user__is_staff=True).user)
    bad = SimpleUploadedFile("x.csv", b"a,b\n")
    refused = client.post("/billing/reconciliation/", {"file": bad, "names": ""})
    assert (refused.status_code, "Nothing was kept" in refused.content.decode()) == (400, True)
    good = SimpleUploadedFile("x.csv", ANTHROPIC.encode())
    assert client.post("/billing/reconciliation/", {"file": good, "names": "a = b"}).status_code == 302
    assert ProviderImport.objects.get().names == {"a": "b"}


@pytest.mark.django_db
def test_the_command_says_the_coverage_and_fails_where_they_differ(tmp_path: Path) -> None:
    made(TeamFactory(), 1, input=100)
    path, out = tmp_path / "usage.csv", io.StringIO()
    path.write_text(ANTHROPIC)
    with pytest.raises(CommandError, match="differ"):
        call_command("reconcile", str(path), stdout=out)
    assert "coverage: 53.7 % of what the provider says" in out.getvalue()
