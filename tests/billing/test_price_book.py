"""Prices: from draft to active, imported without overwriting, with tiers and discounts, exact to the last digit."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from accounts.models import AuditEvent, User
from billing import price_book, price_imports, pricing, rating, rerating
from billing.errors import BadPrice
from billing.models import CreditGrant, Discount, LedgerEntry, Price, PriceDraft, Rerating
from catalog import starter_catalog
from tests.factories.accounts import TeamFactory, UserFactory
from tests.factories.billing import NOVEMBER, billed, priced

D = Decimal
NOW = datetime.now(UTC)
SKU = "hosted:x"


def drafted(amount: str, **given: Any) -> PriceDraft:
    fields: dict[str, Any] = {
        "meter": "tokens.input", "amount": D(amount), "valid_from": NOVEMBER, "source": "a page",
        "source_date": date(2026, 11, 1), "actor": "ada@example.com",
    }  # fmt: skip
    return price_book.draft(SKU, **fields | given)


@pytest.mark.django_db
def test_a_price_is_in_force_only_after_it_was_reviewed_and_made_active() -> None:
    row = drafted("0.000003")
    assert not Price.objects.exists()
    with pytest.raises(BadPrice, match="is draft: it can't become active"):
        price_book.activate(row, actor="bob")
    assert not Price.objects.exists()
    price_book.review(row, actor="bob")
    price = price_book.activate(row, actor="bob")
    assert pricing.prices_at(SKU, at=NOVEMBER) == {"tokens.input": D("0.000003")}
    assert (row.price, row.reviewed_by, row.decided_by) == (price, "bob", "bob")
    with pytest.raises(BadPrice):
        price_book.reject(row, actor="bob")


@pytest.mark.django_db
@pytest.mark.parametrize("amount", ["0.003", "0.000000003", "0"])
def test_a_thousandfold_jump_is_refused_with_an_example_until_it_is_confirmed(amount: str) -> None:
    priced(SKU, tokens_input="0.000003")
    with pytest.raises(BadPrice, match=r"1,000 input tokens would cost \$.*, by the price in force \$0.003\. Confirm"):
        drafted(amount)
    assert drafted(amount, jump_confirmed=True).amount == D(amount)
    drafted("0.002999", valid_from=NOVEMBER + timedelta(days=1))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("known", "meter", "above", "amount", "against"),
    [
        ([], "tokens.input", 0, "3", None),
        ([("hosted:y", "tokens.input", "0.000015")], "tokens.input", 0, "0.015", r"the dearest other price \(hosted:"),
        ([("hosted:y", "tokens.input", "0.000015")], "tokens.input", 0, "0.014", None),
        ([("hosted:y", "tokens.input", "0.000015")], "tokens.input", 0, "0", r"the cheapest other price \(hosted:y\)"),
        ([("hosted:y", "tokens.output", "0.000015")], "tokens.input", 0, "3", None),
        ([(SKU, "tokens.input", "0.000003")], "tokens.input", 200_000, "0.006", "its price for shorter prompts"),
        ([(SKU, "tokens.input", "0.000003")], "tokens.input.cached", 0, "0.003", "tokens.input, which it is charged"),
        ([(SKU, "tokens.input", "0.000003")], "tokens.input.cached", 0, "0.0000003", None),
    ],
)  # fmt: skip
def test_a_first_price_is_held_against_the_nearest_that_is_known(
    known: list[tuple[str, str, str]], meter: str, above: int, amount: str, against: str | None
) -> None:
    for sku, its, usd in known:
        priced(sku, **{its.replace(".", "_"): usd})
    given = {"meter": meter, "above_tokens": above}
    if against is None:
        assert drafted(amount, **given).amount == D(amount)
        return
    with pytest.raises(BadPrice, match=rf"would cost \$.*, by {against}.*Confirm"):
        drafted(amount, **given)
    assert drafted(amount, **given, jump_confirmed=True).amount == D(amount)


@pytest.mark.django_db
def test_a_first_price_is_held_against_what_an_import_lists() -> None:
    listed = drafted("0.000003", batch="genai-prices 1", valid_from=NOVEMBER - timedelta(days=1))
    with pytest.raises(BadPrice, match=r"by the list price of the import genai-prices 1 \$0.003"):
        drafted("3")
    price_book.review(listed, actor="bob")
    price_book.activate(listed, actor="bob")
    assert price_book.reference(SKU, meter="tokens.input", amount=D(1), at=NOVEMBER).named == "the price in force"  # type: ignore[union-attr]


@pytest.mark.django_db
def test_who_drafted_a_price_reviews_it_only_where_there_is_no_other_admin() -> None:
    ada = UserFactory(email="ada@example.com", is_staff=True, is_superuser=True)
    UserFactory(is_staff=True)  # may do nothing with prices
    UserFactory(is_superuser=True, is_staff=True, is_active=False)
    alone = drafted("0.000003")
    price_book.review(alone, actor=ada.email)
    said = AuditEvent.objects.get(subject=str(alone))
    assert (said.actor, said.verb) == (ada.email, "reviewed their own price, being the only admin,")
    bob = UserFactory(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="change_pricedraft"))
    with pytest.raises(BadPrice, match="there is another admin now"):
        price_book.activate(alone, actor=ada.email)
    assert price_book.activate(alone, actor=bob.email).amount == D("0.000003")
    row = drafted("0.000004")
    with pytest.raises(BadPrice, match="You drafted it, so another admin has to review it"):
        price_book.review(row, actor=ada.email)
    assert PriceDraft.objects.get(pk=row.pk).state == "draft"
    price_book.review(row, actor=bob.email)
    assert price_book.activate(row, actor=ada.email).amount == D("0.000004"), "four eyes have seen it"
    assert AuditEvent.objects.get(verb="reviewed the price").actor == bob.email


@pytest.mark.django_db
def test_two_open_drafts_for_one_moment_and_prices_too_fine_are_refused() -> None:
    drafted("0.000003")
    with pytest.raises(BadPrice, match="waits already"):
        drafted("0.000004")
    with pytest.raises(BadPrice, match="exactly"):
        drafted("0.0000000000001")
    with pytest.raises(BadPrice, match="no meter"):
        drafted("1", meter="tokens.imaginary")


@pytest.mark.django_db
def test_of_two_prices_from_one_moment_the_later_entered_counts() -> None:
    for amount in ("0.000003", "0.000004"):
        row = drafted(amount)
        price_book.review(row, actor="b")
        price_book.activate(row, actor="b")
    assert pricing.prices_at(SKU, at=NOVEMBER)["tokens.input"] == D("0.000004")
    assert Price.objects.count() == 2


@pytest.mark.django_db
def test_a_teams_discount_is_copied_onto_the_row() -> None:
    team, other = TeamFactory(), TeamFactory()
    priced(SKU, tokens_input="0.000003", tokens_output="0.000015")
    for pattern, percent, days in (
        ("hosted:*", "10", 9),
        ("*", "50", 9),
        ("hosted:x", "12.50", 5),
        ("hosted:x", "20", -1),
    ):
        Discount.objects.create(
            team=team, pattern=pattern, percent=D(percent), valid_from=NOVEMBER - timedelta(days=days), reason="r",
            agreed_by="a",
        )  # fmt: skip
    assert pricing.discount_at(team.pk, "hosted:y", at=NOVEMBER) == 10
    assert pricing.discount_at(team.pk, "compute:cpu", at=NOVEMBER) == 50
    assert pricing.discount_at(other.pk, SKU, at=NOVEMBER) == 0
    prices = pricing.prices_at(SKU, at=NOVEMBER, team_id=team.pk)
    billed(team, {"tokens.input": 8, "tokens.output": 3}, prices=prices, sku=SKU)
    row = LedgerEntry.objects.get(meter="tokens.input")
    assert (row.unit_price, row.list_price, row.discount) == (D("0.000002625"), D("0.000003"), D("12.50"))
    assert row.amount == D("0.000021")
    assert billed(other, prices=pricing.prices_at(SKU, at=NOVEMBER, team_id=other.pk)).lines[0].list_price is None


LITELLM = """{
  "sample_spec": {"input_cost_per_token": 9},
  "claude-opus-4-7": {
    "input_cost_per_token": 5e-06, "output_cost_per_token": 2.5e-05, "cache_read_input_token_cost": 5e-07,
    "cache_creation_input_token_cost": 6.25e-06, "cache_creation_input_token_cost_above_1hr": 1e-05,
    "input_cost_per_token_above_200k_tokens": 1e-05, "search_context_cost_per_query": {"low": 0.01},
    "litellm_provider": "anthropic", "mode": "chat", "max_tokens": 128000
  },
  "nobody-sells-this": {"input_cost_per_token": 1.0000000000000001e-06, "output_cost_per_video_per_second": 0.1}
}"""
NAMES = {"claude-opus-4-7": SKU}


@pytest.mark.django_db
def test_litellms_file_becomes_drafts_without_a_float_and_never_overwrites() -> None:
    found = price_imports.read_litellm(LITELLM)
    assert {one.amount for one in found.prices if one.name == "nobody-sells-this"} == {D("0.0000010000000000000001")}
    priced(SKU, tokens_output="0.000025", tokens_input_cached="0.0000004")
    entered = {
        "meter": "tokens.input.cache_write", "amount": D("0.000006"), "valid_from": datetime(2026, 11, 1, tzinfo=UTC),
        "source": "by hand", "source_date": date(2026, 11, 1),
    }  # fmt: skip
    pricing.set_price(SKU, **entered)  # type: ignore[arg-type]
    facts: dict[str, Any] = {
        "skus": NAMES, "batch": "b", "source": "LiteLLM x", "read_on": date(2026, 11, 1), "actor": "a"
    }  # fmt: skip
    outcome = price_imports.draft_all(found, **facts)
    assert {(row.meter, row.above_tokens, row.amount) for row in outcome.drafts} == {
        ("tokens.input", 0, D("0.000005")),
        ("tokens.input", 200_000, D("0.00001")),
        ("tokens.input.cached", 0, D("0.0000005")),
        ("tokens.input.cache_write_1h", 0, D("0.00001")),
    }
    assert outcome.unchanged == 1
    assert [str(one) for one in outcome.skipped] == [
        "claude-opus-4-7: search_context_cost_per_query: no meter here is like it",
        "claude-opus-4-7: tokens.input.cache_write: a price from 2026-11-01 was entered, and stays",
    ]
    again = price_imports.draft_all(found, **facts)
    assert again.drafts == []
    assert sum("waits already" in str(one) for one in again.skipped) == 4
    assert not Price.objects.filter(source__startswith="LiteLLM").exists()
    for bad in ("[1]", "{", '{"m": {"input_cost_per_token": NaN}}'):
        with pytest.raises(BadPrice):
            price_imports.read_litellm(bad)
    odd = price_imports.read_litellm('{"m": {"input_cost_per_token": "5", "output_cost_per_token": -1}}')
    assert (odd.prices, len(odd.skipped)) == ([], 2)


@pytest.mark.django_db
def test_genai_prices_become_drafts_and_its_hours_of_the_day_are_listed() -> None:
    starter_catalog.load()
    out = io.StringIO()
    call_command("import_prices", "--genai", "--read-on", "2026-11-25", stdout=out)
    text = out.getvalue()
    assert "a price by the time of day: a price here holds the whole day" in text
    assert PriceDraft.objects.filter(above_tokens__gt=0).exists()
    assert PriceDraft.objects.filter(meter="tokens.input.cache_write_1h").exists()
    assert {row.state for row in PriceDraft.objects.all()} == {"draft"}
    assert all(row.source == "genai-prices 0.2.3" for row in PriceDraft.objects.all())


@pytest.mark.django_db
def test_the_command_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"no-such": {"input_cost_per_token": 1}}))
    out = io.StringIO()
    call_command("import_prices", "--litellm", str(file), stdout=out)
    assert out.getvalue() == "0 drafted, 0 as they are, 0 left out.\n"


@pytest.fixture
def admin(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("root@example.com", "a-long-quiet-river"))
    return client


SPAN = {"since_0": "2026-01-01", "since_1": "00:00", "until_0": "2036-01-01", "until_1": "00:00"}
DRAFT = {
    "sku": SKU, "meter": "tokens.input", "above_tokens": "0", "quoted": "3", "valid_from_0": "2026-11-01",
    "valid_from_1": "00:00:00", "source": "a page", "source_date": "2026-11-01",
}  # fmt: skip


def test_the_admins_form_takes_a_quoted_price_and_refuses_a_jump(admin: Client) -> None:
    assert admin.get("/admin/billing/pricedraft/add/").status_code == 200
    admin.post("/admin/billing/pricedraft/add/", DRAFT)
    row = PriceDraft.objects.get()
    assert (row.amount, row.drafted_by) == (D("0.000003"), "root@example.com")
    for name in ("review", "activate"):
        admin.post("/admin/billing/pricedraft/", {"action": name, "_selected_action": [row.pk]})
    assert pricing.prices_at(SKU) == {"tokens.input": D("0.000003")}
    jump = DRAFT | {"quoted": "3000", "valid_from_0": "2026-11-02"}
    page = admin.post("/admin/billing/pricedraft/add/", jump).content.decode()
    assert "1,000 input tokens would cost $3.00" in page
    admin.post("/admin/billing/pricedraft/add/", jump | {"jump_confirmed": "on"})
    assert PriceDraft.objects.count() == 2
    assert admin.get(f"/admin/billing/pricedraft/{row.pk}/change/").status_code == 200


def test_the_admin_corrects_rerates_grants_and_discounts(admin: Client) -> None:
    team = TeamFactory()
    priced("hosted:smollm2-135m-instruct", tokens_input="0.00000002", tokens_output="0.00000001")
    billed(team, started_at=NOW)
    entry = LedgerEntry.objects.get(meter="tokens.output")
    for model in ("price", "pricedraft", "discount", "creditgrant", "ledgerentry", "rerating"):
        assert admin.get(f"/admin/billing/{model}/").status_code == 200, model
    admin.post("/admin/billing/rerating/add/", {"sku": entry.sku, "reason": "Too dear", **SPAN})
    made = Rerating.objects.get()
    assert "0.0000002" in admin.get(f"/admin/billing/rerating/{made.pk}/change/").content.decode()
    url = f"/admin/billing/rerating/{made.pk}/apply/"
    admin.get(url)
    made.refresh_from_db()
    assert made.state == "draft", "a link alone applies nothing"
    admin.post(url)
    made.refresh_from_db()
    assert made.state == "applied"
    correct = f"/admin/billing/ledgerentry/{entry.pk}/correct/"
    assert admin.get(correct).status_code == 200
    admin.post(correct, {"quantity": "5", "unit_price": "0.00000001", "reason": "Five"})
    assert sum(row.amount for row in LedgerEntry.objects.filter(meter="tokens.output")) == D("0.00000005")
    grant = {"team": team.pk, "name": "Hello", "usd": "5", "starts_at_0": "2026-11-01", "starts_at_1": "00:00"}
    admin.post("/admin/billing/creditgrant/add/", grant)
    assert CreditGrant.objects.get().granted_by == "root@example.com"
    discount = {"team": team.pk, "pattern": "*", "percent": "5", "valid_from_0": "2026-11-01", "valid_from_1": "00:00",
                "reason": "r"}  # fmt: skip
    admin.post("/admin/billing/discount/add/", discount)
    assert Discount.objects.get().agreed_by == "root@example.com"


def test_the_admin_imports_a_file_of_prices_as_drafts(admin: Client) -> None:
    starter_catalog.load()
    url = "/admin/catalog/offer/import-prices"
    assert admin.get(url, follow=True).status_code == 200
    file = SimpleUploadedFile("prices.json", LITELLM.encode())
    page = admin.post(f"{url}/", {"file": file, "read_on": "2026-11-25"}).content.decode()
    assert "left out" in page
    assert PriceDraft.objects.filter(source="LiteLLM prices.json").exists()


@pytest.mark.django_db
def test_staff_without_the_permission_decides_nothing(client: Client) -> None:
    client.force_login(User.objects.create_user("staff@example.com", "a-long-quiet-river", is_staff=True))
    team = TeamFactory()
    priced("hosted:smollm2-135m-instruct", tokens_input="0.00000002", tokens_output="0.00000001")
    billed(team, started_at=NOW)
    entry = LedgerEntry.objects.get(meter="tokens.output")
    made = rerating.draft(entry.sku, since=NOVEMBER, until=NOW + timedelta(days=1), reason="r", actor="a")
    row = drafted("0.000003")
    for url in (
        f"ledgerentry/{entry.pk}/correct/", f"rerating/{made.pk}/apply/", f"rerating/{made.pk}/reject/",
        "pricedraft/add/",
        "rerating/add/", "creditgrant/add/", "discount/add/", "pricedraft/",
    ):  # fmt: skip
        given = {"action": "review", "_selected_action": [row.pk], "sku": entry.sku, "reason": "r"} | SPAN
        assert client.post(f"/admin/billing/{url}", given).status_code == 403, url
    assert client.get("/admin/catalog/offer/import-prices").status_code in {301, 403}
    assert client.post("/admin/catalog/offer/import-prices/").status_code == 403
    row.refresh_from_db()
    assert row.state == "draft"
    assert Rerating.objects.count() == 1


def test_a_discounted_price_is_rounded_once_half_to_even() -> None:
    assert rating.discounted(D("0.000000000001"), D("50")) == D("0.000000000000")
    assert rating.discounted(D("0.000000000003"), D("50")) == D("0.000000000002")
    assert rating.discounted(D("0.000003"), D("33.33")) == D("0.000002000100")
