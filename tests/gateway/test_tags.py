"""Whose a call is: the member behind its key, and the caller's own label."""

import httpx
import pytest

from accounts import keys
from billing.models import LedgerEntry, Reservation, UsageEvent
from tests.factories.accounts import MembershipFactory
from tests.gateway.conftest import Gateway

CHAT = {"model": "good", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
CLAUDE = CHAT | {"model": "c-good"}


def test_a_call_is_billed_under_its_keys_maker_and_its_own_tag_else_its_keys(gateway: Gateway) -> None:
    maker = MembershipFactory(team=gateway.team).user
    _, key = keys.issue(gateway.team, name="ci", created_by=maker, tag="nightly")
    for tag in ("", "Größe 5"):
        headers = {"authorization": f"Bearer {key}"} | ({"x-modelport-tag": tag.encode()} if tag else {})
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.status_code == 200
    for model in (Reservation, UsageEvent, LedgerEntry):
        found = set(model.objects.values_list("member", "tag"))
        assert found == {(maker.email, "nightly"), (maker.email, "Größe 5")}, model
    assert LedgerEntry.objects.filter(calls=1).count() == 2, "one row of each call counts it"


@pytest.mark.parametrize("tag", [b"x" * 65, b"a\tb", b"\xff", "\u202egnp.exe".encode()])
def test_a_tag_that_is_none_is_refused_on_both_wires_before_anything_is_held(gateway: Gateway, tag: bytes) -> None:
    chat = httpx.post(
        f"{gateway.url}/v1/chat/completions", json=CHAT, headers=gateway.headers | {"x-modelport-tag": tag}
    )
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, "x-modelport-tag")
    claude = httpx.post(
        f"{gateway.url}/v1/messages", json=CLAUDE, headers={"x-api-key": gateway.key, "x-modelport-tag": tag}
    )
    assert (claude.status_code, claude.json()["error"]["type"]) == (400, "invalid_request_error")
    assert claude.json()["error"]["message"].startswith("x-modelport-tag: ")
    assert not Reservation.objects.exists()
