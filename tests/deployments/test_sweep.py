"""The sweep looks at all at once: its cost does not grow with what is quiet, nor its queries with what is awake."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments import orphans, reconcile
from deployments.lifecycle import Status
from deployments.models import Deployment, Orphan, Replica
from tests.deployments.portals import Portal
from tests.deployments.processes import wait_until
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db(transaction=True)


def sleepers(count: int) -> None:
    model, hardware = smollm2()
    team = TeamFactory()
    rows = [
        Deployment(
            team=team, name=f"s{n}", model=model, weights=model.weights.get(), hardware=hardware, engine="llama_cpp",
            backend="local", status=(Status.ASLEEP, Status.FAILED, Status.STOPPED)[n % 3],
        )
        for n in range(count)
    ]  # fmt: skip
    Deployment.objects.bulk_create(rows)


def queries_of_a_sweep() -> int:
    with CaptureQueriesContext(connection) as asked:
        assert reconcile.sweep() == []
    return len(asked)


def test_a_sweep_asks_as_much_for_many_as_for_few(small_portal: Portal) -> None:
    small_portal.awake("a")
    sleepers(3)
    few = queries_of_a_sweep()
    small_portal.awake("b")
    small_portal.awake("c")
    sleepers(300)
    assert queries_of_a_sweep() == few < 12


def test_a_sweep_says_of_each_replica_when_it_was_last_seen(small_portal: Portal) -> None:
    small_portal.awake("a")
    before = timezone.now()
    reconcile.sweep()
    assert Replica.objects.get().seen_at > before


def test_a_sweep_finds_the_one_that_died_among_those_that_did_not(small_portal: Portal) -> None:
    rows = [small_portal.awake(name) for name in "abc"]
    small_portal.kill(rows[1])
    assert reconcile.sweep() == [rows[1].pk]
    statuses = [Deployment.objects.get(pk=row.pk).status for row in rows]
    assert statuses == [Status.READY, Status.STARTING, Status.READY]


def test_an_orphan_is_removed_and_reported_once(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    replica = small_portal.live(row)[0]
    Replica.objects.filter(pk=replica.pk).update(exited_at=timezone.now())
    Deployment.objects.filter(pk=row.pk).update(status=Status.ASLEEP)
    reconcile.sweep()
    orphan = Orphan.objects.get()
    assert (orphan.name, orphan.backend) == (replica.name, "local")
    assert orphan.ran_since
    assert orphan.ran_since <= orphan.found_at
    assert orphan.belonged_to == f"{row.endpoint_model}, whose row had ended"
    wait_until(lambda: not small_portal.engines())
    reconcile.sweep()
    orphan.refresh_from_db()
    assert orphan.gone_at
    assert orphans.removed() == 1
