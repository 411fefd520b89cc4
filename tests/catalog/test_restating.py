"""Base and licence of weights that are here, said anew: by whom, what it changes, and that the licence gate follows."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts import keys
from accounts.models import AuditEvent, Membership, Role
from catalog import restating
from catalog.errors import Refused
from catalog.licensing import stating
from catalog.models import Licence, Model, Weights
from tests.factories.accounts import MembershipFactory
from tests.factories.deployments import own_weights, smollm2

API = "/api/v1/weights"


@pytest.fixture
def member(db: None, client: Client) -> Membership:
    smollm2()
    Licence.objects.create(slug="nc", name="NC 4.0", commercial_use=False)
    found: Membership = MembershipFactory()
    client.force_login(found.user)
    return found


@pytest.fixture
def weights(member: Membership, tmp_path: Path) -> Weights:
    return own_weights(member.team, tmp_path / "mine", {"m.gguf": b"GGUF"})


def send(client: Client, weights: Weights, body: dict[str, Any], key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return client.patch(f"{API}/{weights.pk}", json.dumps(body), content_type="application/json", headers=headers)


def licences(weights: Weights) -> list[str]:
    row = Weights.objects.select_related(*stating.OF_WEIGHTS, "model").get(pk=weights.pk)
    return sorted(one.licence for one in stating.of_weights(row))


def test_the_page_says_another_licence_and_base_and_the_gate_goes_by_them(client: Client, weights: Weights) -> None:
    page = f"/weights/{weights.pk}"
    assert "Base and licence" in client.get(page).content.decode()
    licence = Licence.objects.get(slug="nc")
    form = {"base": "SmolLM2 135M Instruct", "licence": licence.pk}
    assert client.post(f"{page}/terms", form).status_code == 302
    weights.refresh_from_db()
    assert (weights.licence, weights.base_name) == (licence, "SmolLM2 135M Instruct")
    assert weights.model.licence == licence, "the library shows it, too"
    assert licences(weights) == ["apache-2-0", "nc"]
    event = AuditEvent.objects.get(verb="stated the terms of")
    assert event.before == {"base": "", "licence": "not stated"}
    assert event.after == {"base": "SmolLM2 135M Instruct", "licence": "nc"}
    shown = client.get(f"{page}?edit=terms").content.decode()
    assert 'value="SmolLM2 135M Instruct"' in shown
    assert client.post(f"{page}/terms", {"base": "", "licence": licence.pk}).status_code == 302
    assert licences(weights) == ["nc"]
    assert client.post(f"{page}/terms", {"base": "no such model"}).status_code == 400


def test_without_a_licence_of_its_own_the_bases_holds(client: Client, weights: Weights) -> None:
    Model.objects.filter(slug="smollm2-135m-instruct").update(licence=Licence.objects.get(slug="nc"))
    told = send(client, weights, {"base": "smollm2-135m-instruct", "licence": None}).json()
    assert (told["base"], told["licence"], told["licence_warning"]) == ("SmolLM2 135M Instruct", "NC 4.0", "")
    told = send(client, weights, {"licence": "apache-2-0"}).json()
    assert (told["base"], told["licence"]) == ("SmolLM2 135M Instruct", "Apache-2.0")
    assert "does not allow commercial use" in told["licence_warning"]


def test_what_is_left_out_stays_and_the_same_again_is_no_change(client: Client, weights: Weights) -> None:
    send(client, weights, {"licence": "nc"})
    send(client, weights, {"notes": "Good."})
    weights.refresh_from_db()
    assert (weights.licence_id is not None, weights.notes) == (True, "Good.")
    send(client, weights, {"licence": "nc"})
    assert AuditEvent.objects.filter(verb="stated the terms of").count() == 1
    for bad in ({"base": "none"}, {"licence": "none"}, {"base": weights.model.slug}):
        assert send(client, weights, bad).status_code == 400, bad


@pytest.mark.parametrize("role", Role.values)
def test_what_a_publisher_stated_is_the_managers_to_state_otherwise(
    client: Client, weights: Weights, role: str
) -> None:
    Membership.objects.update(role=role)
    may = role in {"owner", "admin", "developer"}
    assert (client.post(f"/weights/{weights.pk}/terms", {"base": "", "licence": ""}).status_code == 302) is may
    Weights.objects.filter(pk=weights.pk).update(source_kind="hub")
    manages = role in {"owner", "admin"}
    assert (client.post(f"/weights/{weights.pk}/terms", {"base": "", "licence": ""}).status_code == 302) is manages
    assert (send(client, weights, {"licence": "nc"}).status_code == 200) is manages
    assert (send(client, weights, {"notes": "x"}).status_code == 200) is may
    _, key = keys.issue(Membership.objects.get().team, name="k")
    assert send(Client(), weights, {"licence": "nc"}, key).status_code == 403
    assert send(Client(), weights, {"notes": "x"}, key).status_code == 200


def test_an_adapters_base_and_what_is_on_its_way_stay(weights: Weights, tmp_path: Path) -> None:
    assert weights.team
    lora = own_weights(weights.team, tmp_path / "lora", {"l.gguf": b"GGUF"}, base=weights)
    with pytest.raises(Refused, match="held against its files"):
        restating.restate(lora, base=None, actor="a")
    restating.restate(lora, licence=Licence.objects.get(slug="nc"), actor="a")
    assert licences(lora) == ["apache-2-0", "nc"]
    Weights.objects.filter(pk=weights.pk).update(status="verifying")
    with pytest.raises(Refused, match="on their way"):
        restating.restate(weights, licence=None, actor="a")


def test_nothing_is_tuned_from_what_was_tuned_from_it(weights: Weights, tmp_path: Path) -> None:
    assert weights.team
    child = own_weights(weights.team, tmp_path / "child", {"m.gguf": b"GGUF"})
    restating.restate(child, base=weights.model, actor="a")
    with pytest.raises(Refused, match="tuned from itself"):
        restating.restate(weights, base=child.model, actor="a")


def test_the_list_goes_page_by_page(client: Client, member: Membership, weights: Weights) -> None:
    Weights.objects.bulk_create(
        Weights(
            team=member.team, model=weights.model, version=number, revision=f"v{number}", format="gguf", path="/x",
            sha256="-", source="test",
        )
        for number in range(2, 53)
    )  # fmt: skip
    first = client.get("/weights/")
    assert len(first.context["cards"]) == 50
    assert "1 to 50 of 52" in first.content.decode()
    assert len(client.get("/weights/?page=2").context["cards"]) == 2
    assert len(client.get("/weights/?page=nonsense").context["cards"]) == 50
