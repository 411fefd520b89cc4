"""A real engine is measured, and the catalog keeps the figures with all that they hold for."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.models import Team
from catalog import measurements
from catalog.measurements import Figures
from catalog.models import Measurement
from deployments.lifecycle import Status
from deployments.models import Deployment, ThroughputRun
from deployments.validation import measuring, sweeping, wishes, work
from deployments.validation.measuring import Timed
from tests.deployments.portals import Portal
from tests.factories import tiny_weights
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.deployments import smollm2
from tests.gateway.engine import deployed, engine

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_real_engine_is_measured_for_1_4_and_16_callers(
    client: Client, capsys: Any, settings: Any, tmp_path: Path
) -> None:
    """llama.cpp with random weights of some kilobytes: it says nothing sensible, and quickly."""
    membership = MembershipFactory()
    smollm2()
    settings.SMOLLM2_GGUF = str(tmp_path / "tiny.gguf")
    (tmp_path / "tiny.gguf").write_bytes(
        tiny_weights.gguf(metadata=tiny_weights.LLAMA | {"llama.context_length": 4096})
    )
    with engine() as address:
        row = deployed(membership.team, address)
        Deployment.objects.update(options={"context_tokens": 128, "slots": 4})
        call_command("measure_throughput", deployment=row.endpoint_model)
    assert "callers" in capsys.readouterr().out
    (found,) = measurements.of_model(row.model, team=row.team)
    assert [one.callers for one in found.rows] == [1, 4, 16]
    assert [one.samples for one in found.rows] == [3, 8, 16]
    for one in found.rows:
        assert one.decode_tokens_per_s > 1
        assert one.output_tokens == 25, "as long as was asked for, which is what fits its context"
        assert one.prompt_tokens > 25
        assert one.first_token_ms > 0
        assert one.prefill_tokens_per_s is None if one.callers == 16 else one.prefill_tokens_per_s > one.callers
    assert (found.first.engine, found.first.hardware_id, found.disturbed) == ("llama_cpp", "cpu-small", False)
    assert found.first.engine_version
    assert found.first.weights == row.weights
    row.refresh_from_db()
    assert row.last_call_at, "it does not fall asleep meanwhile"
    best = measurements.rate(weights=row.weights, hardware=row.hardware, callers=8)
    assert best
    assert best.callers == 4
    client.force_login(membership.user)
    (told,) = client.get(f"/api/v1/models/{row.model.slug}/measurements").json()["results"]
    assert [one["callers"] for one in told["figures"]] == [1, 4, 16]
    row.weights.team = membership.team
    row.weights.save()
    assert measurements.of_model(row.model, team=membership.team)
    assert not measurements.of_model(row.model, team=TeamFactory()), "another team's own weights"
    for page in (f"/deployments/{row.pk}/validation/", f"/models/{row.model.slug}/"):
        text = client.get(page).content.decode()
        assert "Measured here" in text
        assert "queued" in text


def test_figures_are_of_the_callers_clock() -> None:
    batch = [Timed(0.0, 1.0, 3.0, 100, 21), Timed(0.0, 2.0, 4.0, 100, 21)]
    assert measuring._prefill(batch) == pytest.approx(200 / 2.0)
    assert measuring._decode(batch) == pytest.approx(40 / 3.0)


def test_a_measuring_that_is_done_again_replaces_its_figures() -> None:
    model, hardware = smollm2()
    weights = model.weights.get()
    run = uuid4()
    for rate in (10.0, 20.0):
        figures = Figures(4, 8, 200, 48, 100.0, 1000.0, rate)
        measurements.record(
            figures, run=run, model=model, weights=weights, hardware=hardware, engine="llama_cpp", engine_version="1",
            options={}, disturbed=False, measured_at=timezone.now(),
        )  # fmt: skip
    assert Measurement.objects.get().decode_tokens_per_s == 20.0
    assert measurements.rate(weights=weights, hardware=hardware, callers=1) is None, "not measured for so few"
    Measurement.objects.update(disturbed=True)
    assert measurements.rate(weights=weights, hardware=hardware) is None


def test_an_engine_that_streams_nothing_is_no_measurement(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    run = wishes.measure(row, actor="t")
    measuring.carry_out(run.pk)
    run.refresh_from_db()
    assert (run.status, run.ended, run.detail) == ("ended", "not_callable", "It wrote no token.")
    assert not Measurement.objects.exists()


def test_a_sleeper_is_woken_to_be_measured_and_a_dead_worker_is_no_end(small_portal: Portal) -> None:
    row = small_portal.awake("a", min_replicas=0)
    Deployment.objects.update(status_since=row.created_at - timedelta(hours=1))
    assert small_portal.settle(row).status == Status.ASLEEP
    run = wishes.measure(row, actor="t")
    ThroughputRun.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))
    measuring.carry_out(run.pk)
    run.refresh_from_db()
    assert (run.status, run.ended) == ("ended", "too_long")
    again = wishes.measure(row, actor="t")
    with work.held(ThroughputRun, again.pk):
        ThroughputRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1), lapses=9)
    ThroughputRun.objects.filter(pk=again.pk).update(lease_until=None)
    sweeping.sweep()
    again.refresh_from_db()
    assert (again.status, again.ended) == ("ended", "worker_died")


def test_the_portals_own_is_measured_by_its_operators(small_portal: Portal, client: Client) -> None:
    team = Team.objects.filter(is_platform=True).first() or TeamFactory(is_platform=True)
    row = small_portal.deploy("own", team=team, min_replicas=1)
    membership = MembershipFactory()
    client.force_login(membership.user)
    assert client.post(f"/deployments/measure/{row.model.slug}/").status_code == 403
    assert client.post("/deployments/measure/no-such/").status_code == 404
    membership.user.is_staff = True
    membership.user.save()
    assert client.post(f"/deployments/measure/{row.model.slug}/").status_code == 302
    assert ThroughputRun.objects.get().deployment == row
    with pytest.raises(CommandError, match="being measured already"):
        call_command("measure_throughput", deployment=row.endpoint_model)
    with pytest.raises(CommandError, match="no deployment"):
        call_command("measure_throughput", deployment="no/such")
