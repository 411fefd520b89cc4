"""A person who is signed in, and the team that they own."""

import pytest
from django.test import Client

from accounts.models import Membership, Role
from tests.factories.accounts import MembershipFactory


@pytest.fixture
def owner(db: None) -> Membership:
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def browser(client: Client, owner: Membership) -> Client:
    client.force_login(owner.user)
    return client
