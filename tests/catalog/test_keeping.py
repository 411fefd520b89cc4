"""Content is kept in a bucket too, where one is set: moto speaks S3 over a real socket."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import boto3
import pytest
from django.core.management import CommandError, call_command
from moto.server import ThreadedMotoServer

from accounts.models import Team
from billing import pricing
from catalog import fetching, importing, keeping, removing, store
from catalog.models import Weights
from deployments import operations, reconcile
from deployments.models import Deployment
from tests.factories import tiny_weights as tiny
from tests.factories.catalog import mit
from tests.fakes.hub import TestHub

GGUF = tiny.gguf()
DIGEST = hashlib.sha256(GGUF).hexdigest()
SECRET = "a-secret-that-stands-nowhere"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, settings: Any) -> Iterator[Any]:
    options = {
        "bucket_name": "weights", "endpoint_url": moto, "region_name": "us-east-1", "access_key": "key",
        "secret_key": SECRET, "default_acl": None, "querystring_auth": False,
    }  # fmt: skip
    backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"weights": backend}
    client = boto3.resource(
        "s3", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key=SECRET
    )
    made = client.create_bucket(Bucket="weights")
    yield made
    made.objects.all().delete()
    made.delete()


def imported(hub: TestHub, team: Team, name: str = "tiny") -> Weights:
    hub.add(f"org/{name}", {f"{name}.gguf": GGUF}, card=mit())
    weights = importing.begin(team, f"org/{name}", actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.detail) == ("ready", "")
    return weights


def _price() -> None:
    pricing.set_price(
        "compute:cpu-small", meter="compute.seconds", amount=Decimal("0.0001"), source="t",
        valid_from=datetime(2026, 1, 1, tzinfo=UTC), source_date=date(2026, 1, 1),
    )  # fmt: skip


def names(bucket: Any) -> list[str]:
    return [one.key for one in bucket.objects.all()]


def test_ready_weights_are_in_the_bucket_once_and_leave_it_with_their_last_use(
    bucket: Any, hub: TestHub, importers: Team
) -> None:
    first, second = imported(hub, importers), imported(hub, importers, "other")
    assert names(bucket) == [f"blobs/{DIGEST}"]
    assert bucket.Object(f"blobs/{DIGEST}").get()["Body"].read() == GGUF
    removing.remove(first, actor="ada")
    assert names(bucket) == [f"blobs/{DIGEST}"]
    removing.remove(second, actor="ada")
    assert names(bucket) == []


def test_what_is_freed_from_the_disk_comes_back_for_a_deployment(bucket: Any, hub: TestHub, importers: Team) -> None:
    weights = imported(hub, importers)
    _price()
    said = StringIO()
    call_command("free_weights", stdout=said)
    assert f"{len(GGUF):,} bytes" in said.getvalue()
    assert not store.blob_path(DIGEST).exists()
    assert keeping.is_away(weights)
    hardware = weights.offers.get().hardware.exclude(backend="").first()
    assert hardware is not None
    row = operations.deploy(importers, model=weights.model, hardware=hardware, actor="ada")
    reconcile.step(row)
    row = Deployment.objects.get(pk=row.pk)
    assert row.status == "downloading"
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.detail) == ("ready", "")
    assert not keeping.is_away(weights)
    with open(weights.path, "rb") as file:
        assert file.read() == GGUF


def test_a_base_and_its_adapter_come_back_too(bucket: Any, hub: TestHub, importers: Team) -> None:
    base = imported(hub, importers)
    hub.add("org/lora", {"l.gguf": tiny.gguf_adapter()}, card={"base_model": "org/tiny"})
    lora = importing.begin(importers, "org/lora", actor="ada")
    fetching.fetch(lora.pk)
    pricing.set_price(
        "compute:cpu-small", meter="compute.seconds", amount=Decimal("0.0001"), source="t",
        valid_from=datetime(2026, 1, 1, tzinfo=UTC), source_date=date(2026, 1, 1),
    )  # fmt: skip
    keeping.free(base)
    keeping.free(lora)
    hardware = base.offers.get().hardware.exclude(backend="").first()
    assert hardware is not None
    row = operations.deploy(importers, model=base.model, hardware=hardware, actor="ada", adapters=[str(lora.pk)])
    for weights in (base, lora):
        reconcile.step(row)
        row = Deployment.objects.get(pk=row.pk)
        assert (row.status, row.detail) == ("downloading", "")
        fetching.fetch(weights.pk)
        weights.refresh_from_db()
        assert weights.status == "ready"
        assert not keeping.is_away(weights)


def test_a_bucket_that_gives_other_bytes_is_named_and_nothing_of_them_is_kept(
    bucket: Any, hub: TestHub, importers: Team
) -> None:
    weights = imported(hub, importers)
    keeping.free(weights)
    bucket.put_object(Key=f"blobs/{DIGEST}", Body=b"x" * len(GGUF))
    fetching.call_back(weights)
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "bucket_away")
    assert "sha256" in weights.detail
    assert not store.blob_path(DIGEST).exists()
    bucket.put_object(Key=f"blobs/{DIGEST}", Body=GGUF)
    importing.retry(weights, actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert weights.status == "ready"


def test_a_bucket_that_is_away_fails_an_import_by_name_and_says_no_secret(
    bucket: Any, hub: TestHub, importers: Team, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = settings.STORAGES["weights"]["OPTIONS"] | {"endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = settings.STORAGES | {"weights": settings.STORAGES["weights"] | {"OPTIONS": options}}
    hub.add("org/tiny", {"tiny.gguf": GGUF})
    weights = importing.begin(importers, "org/tiny", actor="ada")
    fetching.fetch(weights.pk)
    weights.refresh_from_db()
    assert (weights.status, weights.reason) == ("failed", "bucket_away")
    assert SECRET not in weights.detail + caplog.text


def test_without_a_bucket_nothing_is_freed(hub: TestHub, importers: Team) -> None:
    weights = imported(hub, importers)
    with pytest.raises(CommandError, match="bucket"):
        call_command("free_weights")
    assert store.blob_path(DIGEST).exists()
    assert not keeping.is_away(weights)


def test_what_one_click_goes_back_to_is_not_freed(bucket: Any, hub: TestHub, importers: Team) -> None:
    kinds = ("Q4_K_M", "Q8_0")
    files = {f"two-{kind}.gguf": tiny.gguf(seed=seed) for seed, kind in enumerate(kinds, start=40)}
    hub.add("org/two", files, card=mit())
    first, second = (importing.begin(importers, "org/two", actor="ada", file=f"two-{kind}.gguf") for kind in kinds)
    for weights in (first, second):
        fetching.fetch(weights.pk)
        weights.refresh_from_db()
    _price()
    hardware = first.offers.model.objects.get(model=first.model).hardware.exclude(backend="").first()
    assert hardware is not None
    row = operations.deploy(importers, model=first.model, hardware=hardware, revision=first.revision, actor="ada")
    Deployment.objects.filter(pk=row.pk).update(weights=second, version=None)
    call_command("free_weights", stdout=StringIO())
    assert not keeping.is_away(first), "a version of it ran with these"
    Deployment.objects.filter(pk=row.pk).update(status="stopped")
    call_command("free_weights", stdout=StringIO())
    assert keeping.is_away(first)
