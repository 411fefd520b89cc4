"""A deployment's page and the list: what they say, to whom, at what cost, and what counts as a change."""

import re
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, Role
from billing import metering
from catalog.models import Hardware
from deployments import operations, tallies
from deployments.lifecycle import Reason, Status
from deployments.models import Deployment, Orphan, Replica
from deployments.tallies import Ended
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db
POLL = {"hx-request": "true"}
TABS = ("", "logs/", "versions/", "cost/")


@pytest.fixture
def member(client: Client) -> Membership:
    found = MembershipFactory()
    client.force_login(found.user)
    return found


def deployed(team: Any, name: str = "mine", **wish: Any) -> Deployment:
    model, hardware = smollm2()
    return operations.deploy(team, model=model, hardware=hardware, actor="t", name=name, **wish)


def failed(team: Any, reason: Reason, detail: str = "the line\n\nline 1\nthe line", **wish: Any) -> Deployment:
    row = deployed(team, **wish)
    row.transition(Status.FAILED, since=Status.PENDING, reason=reason, detail=detail)
    return row


def seen(html: str) -> dict[str, str]:
    return dict(re.findall(r'id="part-(\w+)" class="part" data-seen="(\w+)"', html))


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_is_a_page_and_its_parts_come_alone_to_who_asks_for_them(
    client: Client, member: Membership, tab: str
) -> None:
    row = deployed(member.team)
    page = client.get(f"/deployments/{row.pk}/{tab}").content.decode()
    parts = client.get(f"/deployments/{row.pk}/{tab}", headers=POLL).content.decode()
    assert f"/deployments/{row.pk}/stream?tab=" in page
    assert "<html" in page
    assert "<html" not in parts
    assert {"head", "timeline"} <= set(seen(parts)) == set(seen(page))


def test_time_that_passes_is_no_change_of_a_part_and_a_move_is(client: Client, member: Membership) -> None:
    row = deployed(member.team)
    Deployment.objects.update(last_call_at=timezone.now())

    def looks() -> dict[str, dict[str, str]]:
        return {tab: seen(client.get(f"/deployments/{row.pk}/{tab}", headers=POLL).content.decode()) for tab in TABS}

    first = looks()
    time.sleep(1.1)  # every age on the page is another one now
    assert looks() == first
    row.transition(Status.STOPPING, since=Status.PENDING, reason=Reason.STOP_ASKED)
    after = looks()
    assert all(after[tab][part] != first[tab][part] for tab in TABS for part in ("head", "timeline"))


@pytest.mark.parametrize(
    "path", ["", "logs/", "versions/", "cost/", "logs/more", "logs/engine.log", "settings/", "stream"]
)
def test_another_teams_page_is_404_on_every_route(client: Client, member: Membership, path: str) -> None:
    theirs = deployed(TeamFactory())
    assert client.get(f"/deployments/{theirs.pk}/{path}").status_code == 404
    assert client.post(f"/deployments/{theirs.pk}/next-step/", {"step": "retry"}).status_code == 404


def test_a_viewer_sees_the_page_without_what_would_change_anything(client: Client) -> None:
    viewer = MembershipFactory(role=Role.VIEWER)
    client.force_login(viewer.user)
    row = failed(viewer.team, Reason.CRASH_LOOP)
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "The engine exited again and again" in page
    assert "csrfmiddlewaretoken" not in page.split('<main id="main"')[1]
    assert client.post(f"/deployments/{row.pk}/next-step/", {"step": "retry"}).status_code == 403


def test_a_failure_names_its_cause_the_line_that_says_it_what_it_cost_and_the_next_step(
    client: Client, member: Membership
) -> None:
    row = failed(member.team, Reason.OUT_OF_MEMORY, "failed to allocate 9 GB\n\na\nfailed to allocate 9 GB")
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "The engine ran out of memory" in page
    assert '<pre class="evidence" id="evidence">failed to allocate 9 GB</pre>' in page
    assert "This attempt has cost" in page
    assert "Halve the context to 1024 tokens and start again" in page
    assert "none that is larger is offered here for this model" in page
    assert "Call it" not in page
    client.post(f"/deployments/{row.pk}/next-step/", {"step": "context"})
    row.refresh_from_db()
    assert (row.status, row.options["context_tokens"]) == (Status.PENDING, 1024)


def test_a_later_deadline_is_a_button(client: Client, member: Membership) -> None:
    row = failed(member.team, Reason.START_TIMEOUT, start_deadline_s=60)
    assert "Raise the start deadline to 120 s" in client.get(f"/deployments/{row.pk}/").content.decode()
    client.post(f"/deployments/{row.pk}/next-step/", {"step": "deadline"})
    row.refresh_from_db()
    assert (row.status, row.start_deadline_s) == (Status.PENDING, 120)


def test_larger_hardware_is_a_link_to_the_form_that_has_it_chosen(client: Client, member: Membership) -> None:
    row = failed(member.team, Reason.TOO_LARGE)
    larger = Hardware.objects.create(slug="big", name="Big", memory_gib=64, backend="local")
    row.model.offers.get().hardware.add(larger)
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "Deploy it on Big, 64 GiB" in page
    assert "/deployments/new?model=smollm2-135m-instruct&amp;hardware=big" in page


@pytest.mark.parametrize("step", ["", "log", "hardware", "nonsense"])
def test_a_step_that_is_no_button_here_is_404_and_starts_nothing(client: Client, member: Membership, step: str) -> None:
    row = failed(member.team, Reason.CRASH_LOOP)
    assert client.post(f"/deployments/{row.pk}/next-step/", {"step": step}).status_code == 404
    row.refresh_from_db()
    assert row.status == Status.FAILED


def test_a_stop_that_takes_too_long_says_so_plainly(client: Client, member: Membership) -> None:
    row = deployed(member.team)
    operations.stop(row, actor="t")
    row.transition(Status.STOPPING, since=Status.PENDING, reason=Reason.STOP_ASKED)
    row.restate(Reason.STOP_TIMEOUT, since=Status.STOPPING, detail="The backend still lists r-1.")
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "The engine has not ended in time; ending it is tried on" in page
    assert "The backend still lists r-1." in page


def test_a_wait_says_its_phase_the_time_expected_and_what_it_costs(client: Client, member: Membership) -> None:
    row = deployed(member.team)
    now = timezone.now()
    for n in range(3):
        made = now - timedelta(minutes=n + 1)
        Replica.objects.create(
            deployment=row, created_at=made, started_at=made + timedelta(seconds=1),
            ready_at=made + timedelta(seconds=4 + n), exited_at=made + timedelta(seconds=20),
        )  # fmt: skip
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    head = page.split('id="wait"')[1]
    assert "<b>Waiting for a worker</b>" in head
    assert "usually about 5.0 s" in head
    assert "It costs $0.036 an hour from the start of its process; a start that fails costs nothing" in head
    assert "<b>5.0 s</b> in the middle, nine of ten within <b>6.0 s</b>" in page


def test_the_numbers_are_those_that_gateways_counted(client: Client, member: Membership) -> None:
    row = deployed(member.team)
    now = timezone.now()
    tallies.count([Ended(row.pk, now, False, 10, 60, 120)] * 3 + [Ended(row.pk, now, True)])
    page = client.get(f"/deployments/{row.pk}/").content.decode()
    assert "Failed: 1 of 4 calls in the last 5 minutes, 1 of 4 in the last hour (25 %)" in page
    assert "180 written, 30 read in the last hour" in page
    assert '<p class="big" id="calls">0.07 <small>/ s</small>' in page


@pytest.mark.parametrize("count", [3, 30])
def test_the_list_asks_at_most_twelve_queries_whatever_its_length(
    client: Client, member: Membership, count: int
) -> None:
    for number in range(count):
        row = deployed(member.team, name=f"d{number}")
        tallies.count([Ended(row.pk, timezone.now(), False)])
        Replica.objects.create(deployment=row, started_at=timezone.now())
    client.get("/deployments/")  # the first page of a session also writes it
    with CaptureQueriesContext(connection) as asked:
        page = client.get("/deployments/").content.decode()
    assert page.count('class="spark"') == count
    assert len(asked) <= 12, [query["sql"][:90] for query in asked]


def test_a_page_asks_as_much_for_many_events_and_replicas_as_for_few(client: Client, member: Membership) -> None:
    row = deployed(member.team)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(f"/deployments/{row.pk}/")
        return len(asked)

    Replica.objects.create(deployment=row, exited_at=timezone.now())
    queries()
    few = queries()
    for _ in range(20):
        Replica.objects.create(deployment=row, exited_at=timezone.now())
        row.restate(Reason.ASKED, since=Status.PENDING)
    assert queries() == few


def test_the_list_tells_two_lives_of_one_name_apart(client: Client, member: Membership) -> None:
    first = deployed(member.team, name="same")
    Deployment.objects.filter(pk=first.pk).update(
        status=Status.STOPPED, created_at=timezone.now() - timedelta(seconds=50)
    )
    second = deployed(member.team, name="same")
    _bill(first, seconds_ago=40, seconds=10)
    _bill(second, seconds_ago=0, seconds=30)
    rows = {one.report.row.pk: one.today for one in client.get("/deployments/").context["overview"].rows}
    assert rows == {first.pk: Decimal("0.0001"), second.pk: Decimal("0.0003")}


def test_what_is_stopped_is_shown_last_and_the_rest_of_it_on_asking(client: Client, member: Membership) -> None:
    for number in range(13):
        deployed(member.team, name=f"d{number}")
    Deployment.objects.exclude(name="d0").update(status=Status.STOPPED)
    page = client.get("/deployments/").content.decode()
    assert "2 more that are stopped" in page
    assert page.index(">d0<") < page.index(">d12<")
    assert "more that are stopped" not in client.get("/deployments/?over=all").content.decode()


def test_orphans_are_shown_to_staff_alone(client: Client, member: Membership) -> None:
    Orphan.objects.create(backend="local", name="r-orphan", ran_since=timezone.now())
    assert "r-orphan" not in client.get("/deployments/").content.decode()
    member.user.is_staff = True
    member.user.save()
    assert "r-orphan" in client.get("/deployments/").content.decode()


def _bill(row: Deployment, *, seconds_ago: int, seconds: int) -> None:
    """So many seconds of compute at $0.00001, begun then; a little in the future is as good as now."""
    begin = timezone.now() - timedelta(seconds=seconds_ago)
    metering.record_compute(
        replica_id=row.pk,
        team=row.team,
        sku=row.hardware.sku,
        source=row.endpoint_model,
        model_name="m",
        deployment_name=row.name,
        started_at=begin,
        ended_at=begin + timedelta(seconds=seconds),
        prices={"compute.seconds": Decimal("0.00001")},
    )


def test_the_cost_tab_sums_the_ledger_on_the_teams_clock(client: Client, member: Membership) -> None:
    member.team.time_zone = "Asia/Kolkata"  # whose hours begin at half past UTC's
    member.team.save()
    row = deployed(member.team)
    Deployment.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(days=70))
    _bill(row, seconds_ago=0, seconds=50)
    _bill(row, seconds_ago=61 * 60, seconds=40)
    _bill(row, seconds_ago=63 * 24 * 3600, seconds=30)
    page = client.get(f"/deployments/{row.pk}/cost/").content.decode()
    assert "Asia/Kolkata" in page
    assert re.search(r"This hour</dt><dd title=\"exactly \$0.000500+\">\$0.0005<", page)
    assert re.search(r"Ever</dt><dd title=\"exactly \$0.00120+\">\$0.0012<", page)
    assert "Not awake in the last hour." in page
