"""Prompts in the request log: nowhere, unless a team turned it on; then sealed, bounded, its own, and forgotten."""

import logging
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.models import AuditEvent, Role
from gateway import contents
from gateway.models import PromptLogging, RequestContent, RequestRecord
from gateway.tasks import forget_old
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.gateway.conftest import Gateway
from tests.gateway.test_calls import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "the canary sings at dawn"


def ask(gateway: Gateway, *, stream: bool = False) -> str:
    messages: Any = [{"role": "user", "content": SECRET}]
    if not stream:
        answer = gateway.client.chat.completions.create(model="good", messages=messages)
        return answer.choices[0].message.content or ""
    chunks = gateway.client.chat.completions.create(model="good", messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def signed_in(client: Client, gateway: Gateway, role: Role = Role.DEVELOPER) -> None:
    client.force_login(MembershipFactory(team=gateway.team, role=role).user)


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_asked_and_answered_is_on_the_requests_page_once_it_is_on(
    gateway: Gateway, client: Client, stream: bool
) -> None:
    contents.turn_on(gateway.team, days=3, actor="ada@example.com")
    said = ask(gateway, stream=stream)
    wait_for(RequestRecord.objects.exists)
    signed_in(client, gateway)
    page = client.get(reverse("request-detail", args=[RequestRecord.objects.get().pk])).content.decode()
    assert SECRET in page
    assert said.split()[0] in page
    assert AuditEvent.objects.filter(team=gateway.team, verb__contains="prompt logging on").exists()


def test_nothing_is_kept_unless_it_is_on(gateway: Gateway, client: Client) -> None:
    ask(gateway)
    ask(gateway, stream=True)
    wait_for(lambda: RequestRecord.objects.count() == 2)
    assert not RequestContent.objects.exists()
    signed_in(client, gateway)
    page = client.get(reverse("request-detail", args=[RequestRecord.objects.first().pk]))  # type: ignore[union-attr]
    assert "were not kept" in page.content.decode()


def test_no_column_and_no_log_line_holds_a_prompt(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    contents.turn_on(gateway.team, days=3, actor="ada@example.com")
    with caplog.at_level(logging.DEBUG):
        ask(gateway)
        wait_for(lambda: RequestContent.objects.exists() and RequestRecord.objects.exists())
    assert SECRET not in caplog.text
    with connection.cursor() as cursor:
        for table in ("gateway_requestcontent", "gateway_requestrecord", "billing_usageevent", "billing_reservation"):
            cursor.execute(f"SELECT t::text FROM {table} t")  # noqa: S608 - names of our own tables
            assert SECRET not in str(cursor.fetchall())


def test_one_who_may_not_make_things_reads_no_prompt(gateway: Gateway, client: Client) -> None:
    contents.turn_on(gateway.team, days=3, actor="ada@example.com")
    ask(gateway)
    wait_for(RequestRecord.objects.exists)
    address = reverse("request-detail", args=[RequestRecord.objects.get().pk])
    for role in (Role.BILLING, Role.VIEWER):
        signed_in(client, gateway, role)
        page = client.get(address).content.decode()
        assert SECRET not in page
        assert "may not read prompts" in page
    client.force_login(MembershipFactory(role=Role.OWNER).user)
    assert client.get(address).status_code == 404


def test_only_owners_and_admins_turn_it_on_and_off_deletes_at_once(gateway: Gateway, client: Client) -> None:
    address = reverse("prompt-logging")
    for role in (Role.DEVELOPER, Role.BILLING, Role.VIEWER):
        signed_in(client, gateway, role)
        assert client.post(address, {"days": "5"}).status_code == 403
        assert client.get(address).status_code == 200
    signed_in(client, gateway, Role.ADMIN)
    for days in ("0", "91", "", "x"):
        assert client.post(address, {"days": days}).status_code == 400
    assert client.post(address, {"days": "5"}).status_code == 302
    assert PromptLogging.objects.get().days == 5
    ask(gateway)
    wait_for(RequestContent.objects.exists)
    client.post(address, {"off": "yes"})
    assert not PromptLogging.objects.exists()
    assert not RequestContent.objects.exists()


def test_a_call_that_ends_after_it_was_turned_off_is_not_kept(gateway: Gateway) -> None:
    contents.turn_on(gateway.team, days=3, actor="a")
    asked: Any = {"model": "long", "messages": [{"role": "user", "content": SECRET}], "stream": True}
    chunks = gateway.client.chat.completions.create(**asked)
    next(iter(chunks))
    contents.turn_off(gateway.team, actor="a")
    list(chunks)
    wait_for(RequestRecord.objects.exists)
    assert not RequestContent.objects.exists()


def test_a_team_that_is_gone_does_not_stop_the_log_of_the_others(gateway: Gateway) -> None:
    for team in (gone := TeamFactory(), gateway.team):
        contents.turn_on(team, days=3, actor="a")
    _, key = keys.issue(gone, name="last words")
    with httpx.Client(base_url=gateway.url) as client:
        body = {"model": "nothing", "messages": [{"role": "user", "content": SECRET}]}
        client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    gone.delete()
    ask(gateway)
    wait_for(RequestRecord.objects.filter(team=gateway.team).exists)
    assert [row.team for row in RequestContent.objects.all()] == [gateway.team]


def test_a_kept_prompt_is_forgotten_after_its_teams_days(transactional_db: None) -> None:
    patient, quick, off = TeamFactory(), TeamFactory(), TeamFactory()
    contents.turn_on(patient, days=30, actor="a")
    contents.turn_on(quick, days=1, actor="a")
    rows = [contents.Content(b"{}").row(team.pk) for team in (patient, quick, off)]
    RequestContent.objects.bulk_create(rows)
    RequestContent.objects.update(at=timezone.now() - timedelta(days=2))
    forget_old()
    assert [row.team_id for row in RequestContent.objects.all()] == [patient.pk]


def test_a_long_call_is_cut_and_says_so() -> None:
    content = contents.Content.of({"x": "y" * contents.LARGEST})
    assert len(content.prompt) == contents.LARGEST
    for _ in range(3):
        content.add(b"y" * contents.LARGEST)
    assert sum(map(len, content.parts)) == contents.LARGEST
    assert content.row(TeamFactory.build().pk).is_cut


def test_gateways_follow_a_switch_within_five_seconds(gateway: Gateway) -> None:
    ask(gateway)
    contents.turn_on(gateway.team, days=1, actor="a")
    end = time.monotonic() + 6
    while not RequestContent.objects.exists():
        assert time.monotonic() < end
        ask(gateway)
        time.sleep(0.3)


def test_the_key_of_another_team_leaves_nothing_here(gateway: Gateway) -> None:
    contents.turn_on(gateway.team, days=1, actor="a")
    _, gateway.key = keys.issue(TeamFactory(), name="other")
    ask(gateway)
    wait_for(RequestRecord.objects.exists)
    assert not RequestContent.objects.exists()
