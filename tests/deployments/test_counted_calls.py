"""Calls through a real gateway are counted for the page of the deployment that they were for."""

import time

import httpx
import pytest

from accounts import keys
from deployments.lifecycle import Reason, Status
from deployments.models import CallTally
from tests.deployments.portals import Portal
from tests.deployments.processes import wait_until
from tests.gateway.conftest import serving

pytestmark = pytest.mark.django_db(transaction=True)


def test_answers_and_refusals_are_counted_for_their_deployment(small_portal: Portal) -> None:
    row = small_portal.awake("a")
    other = small_portal.awake("b", team=row.team)
    _, key = keys.issue(row.team, name="k")
    ask = {"model": row.endpoint_model, "messages": [{"role": "user", "content": "hi"}]}
    with serving() as url:

        def call(model: str) -> int:
            door = {"authorization": f"Bearer {key}"}
            address = f"{url}/v1/chat/completions"
            return httpx.post(address, json=ask | {"model": model}, headers=door, timeout=30).status_code

        assert [call(row.endpoint_model) for _ in range(2)] == [200, 200]
        row.transition(Status.FAILED, since=Status.READY, reason=Reason.CRASH_LOOP)
        end = time.monotonic() + 5
        while call(row.endpoint_model) != 503:
            assert time.monotonic() < end
        wait_until(lambda: sum(one.failed for one in CallTally.objects.filter(deployment=row)) == 1)
    (calls, tokens) = (sum(one.calls for one in row.tallies.all()), sum(one.tokens_out for one in row.tallies.all()))
    assert calls >= 3
    assert tokens == 3 * (calls - 1)
    assert not other.tallies.exists()
