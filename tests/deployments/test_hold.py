"""How long calls wait for a deployment is set when it is made, and changed while it runs."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import keys
from deployments.models import Deployment
from tests.factories.accounts import TeamFactory
from tests.factories.deployments import smollm2

pytestmark = pytest.mark.django_db


def test_the_bound_on_waiting_is_set_changed_and_taken_back() -> None:
    model, hardware = smollm2()
    _, key = keys.issue(TeamFactory(), name="k")
    client = APIClient(headers={"authorization": f"Bearer {key}"})
    wish: dict[str, Any] = {"model": model.slug, "hardware": hardware.slug, "name": "h", "hold_s": 5}
    made = client.post("/api/v1/deployments", wish, format="json").json()
    assert made["hold_s"] == 5
    path = f"/api/v1/deployments/{made['id']}"
    assert client.patch(path, {"hold_s": 90}, format="json").json()["hold_s"] == 90
    assert client.patch(path, {"idle_window_s": 60}, format="json").json()["hold_s"] == 90
    assert client.patch(path, {"hold_s": None}, format="json").json()["hold_s"] is None
    assert client.patch(path, {"hold_s": 601}, format="json").status_code == 400
    assert Deployment.objects.get().idle_window_s == 60
