"""What pages ask of the database: no more with many rows than with few."""

import logging
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Membership
from tests.factories import crowds
from tests.factories.accounts import MembershipFactory

MOST = 12
NOT_ALLOWED, NOT_FOUND = 405, 404
# Where there is nothing for who has no second factor, and no provider to sign on with.
NOT_THERE = {
    "/accounts/2fa/recovery-codes/",
    "/accounts/2fa/recovery-codes/download/",
    "/accounts/2fa/totp/deactivate/",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A page that answers POST alone says so in the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def member(db: None) -> Membership:
    """Of staff, who are shown most."""
    return MembershipFactory(user__is_staff=True)


def test_no_page_asks_more_than_twelve_questions(client: Client, member: Membership) -> None:
    crowds.fill(member.team, models=90, deployments=30, calls=12)
    ids = crowds.furnish(member, many=12)
    client.force_login(member.user)
    client.get("/models/")  # reads the library, once a process
    asked: dict[str, int] = {}
    lost: set[str] = set()
    for address in crowds.addresses(ids):
        with CaptureQueriesContext(connection) as seen:
            answer = client.get(address)
        if answer.status_code != NOT_ALLOWED:
            asked[address] = len(seen)
        if answer.status_code == NOT_FOUND and "/oidc/" not in address:
            lost.add(address)
    assert len(asked) > 100, "the pages are there"
    assert {address: count for address, count in asked.items() if count > MOST} == {}
    assert lost == NOT_THERE, "a page that isn't there asks little"
