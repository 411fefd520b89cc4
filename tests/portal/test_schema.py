"""The OpenAPI schema names both APIs, and its page loads nothing from elsewhere."""

import re

import pytest
import yaml
from django.test import Client

pytestmark = pytest.mark.django_db


def test_the_schema_holds_the_management_api_and_the_gateway(client: Client) -> None:
    schema = yaml.safe_load(client.get("/api/v1/schema").content)
    assert schema["openapi"].startswith("3.1")
    assert {"/api/v1/deployments", "/api/v1/models", "/api/v1/usage", "/v1/chat/completions"} <= set(schema["paths"])


def test_its_page_loads_nothing_from_elsewhere(client: Client) -> None:
    text = client.get("/api/docs").content.decode()
    assert re.findall(r'(?:src|href)="(?:https?:)?//', text) == []
