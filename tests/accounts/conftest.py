"""A person who is signed in, and the team that they own."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import Membership, Role
from tests.factories.accounts import MembershipFactory


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """A hash that costs nothing: what is tried here is who gets in, not how long guessing takes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def owner(db: None) -> Membership:
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def browser(client: Client, owner: Membership) -> Client:
    client.force_login(owner.user)
    return client
