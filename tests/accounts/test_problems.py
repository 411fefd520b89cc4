"""Whatever goes wrong under /api/ is told as RFC 9457 says, and elsewhere as a page."""

import json

import pytest
from django.test import Client, RequestFactory

from accounts import problems


@pytest.mark.parametrize("path", ["/api/v1/nope", "/api/", "/api/v1/deployments/no-uuid", "/api/v1/models/a/b/c"])
def test_what_the_api_has_not_is_a_problem(path: str, client: Client) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer["content-type"]) == (404, "application/problem+json")
    said = answer.json()
    assert (said["title"], said["status"]) == ("Not found", 404)
    assert path in said["detail"]


@pytest.mark.django_db
def test_what_the_site_has_not_is_a_page(client: Client) -> None:
    answer = client.get("/no-such-page/")
    assert (answer.status_code, answer["content-type"]) == (404, "text/html; charset=utf-8")


def test_an_error_of_ours_tells_nothing_in_either_shape(rf: RequestFactory) -> None:
    told = problems.broken(rf.get("/api/v1/models"))
    assert (told.status_code, json.loads(told.content)["status"]) == (500, 500)
    assert b"Something went wrong here" in problems.broken(rf.get("/models/")).content
