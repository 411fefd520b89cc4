"""Quotas of deployments and replicas: at the door, for the page, the API, a dry run and a change, in plain words."""

from typing import Any

import pytest
from django.test import Client

from accounts import keys, quotas
from accounts.errors import QuotaReached
from accounts.models import Quota, Team
from catalog.uploads import storing
from deployments import operations
from deployments.errors import BadOption, NotDeployable
from deployments.models import Deployment
from tests.factories.accounts import MembershipFactory, TeamFactory
from tests.factories.catalog import hardware, load_starter, model


@pytest.fixture
def team(db: None) -> Team:
    load_starter()
    return TeamFactory()


def _deploy(team: Team, name: str, **numbers: Any) -> Deployment:
    return operations.deploy(
        team, model=model("smollm2-135m-instruct"), hardware=hardware("cpu-small"), actor="t", name=name, **numbers
    )


def test_no_more_is_deployed_than_the_quota_says(team: Team) -> None:
    Quota.objects.create(team=team, what="deployments", most=1)
    first = _deploy(team, "one")
    with pytest.raises(NotDeployable, match=r"quota is 1 deployments that are not stopped, and 1 are in use.*raise it"):
        _deploy(team, "two")
    Deployment.objects.filter(pk=first.pk).update(status="stopped")
    assert _deploy(team, "two")


def test_replicas_on_one_hardware_count_together_up_to_what_each_may_grow_to(team: Team) -> None:
    Quota.objects.create(team=team, what="replicas", of="cpu-small", most=3)
    first = _deploy(team, "one", max_replicas=2)
    with pytest.raises(NotDeployable, match="replicas that deployments on cpu-small may grow to, together, and 2 are"):
        _deploy(team, "two", max_replicas=2)
    operations.change(first, actor="t", max_replicas=3)
    first.refresh_from_db()
    with pytest.raises(BadOption, match="quota is 3") as refused:
        operations.change(first, actor="t", max_replicas=4)
    assert refused.value.option == "max_replicas"
    assert "max_replicas), awake or asleep: lower that of this one" in str(refused.value)
    with pytest.raises(NotDeployable, match=r"and 3 are in use; this asks for 2 more.*awake or asleep.*or stop one"):
        _deploy(team, "two", max_replicas=2)
    operations.change(first, actor="t", max_replicas=1)


def test_the_api_and_a_dry_run_say_which_quota_it_is(team: Team) -> None:
    Quota.objects.create(team=team, what="deployments", most=0)
    _, text = keys.issue(team, name="ci")
    program = Client(headers={"authorization": f"Bearer {text}"})
    wish = {"model": "smollm2-135m-instruct", "hardware": "cpu-small", "name": "one"}
    made = program.post("/api/v1/deployments", wish, content_type="application/json")
    assert (made.status_code, "quota is 0 deployments" in str(made.json()["errors"])) == (400, True)
    rehearsed = program.post("/api/v1/deployments", wish | {"dry_run": True}, content_type="application/json")
    assert "quota is 0 deployments" in rehearsed.content.decode()
    assert not Deployment.objects.exists()


def test_the_nearest_quota_counts(team: Team) -> None:
    assert quotas.most(team, "replicas", of="gpu") is None
    for whose, of, most in ((None, "", 4), (None, "gpu", 3), (team, "", 2), (team, "gpu", 1)):
        Quota.objects.create(team=whose, what="replicas", of=of, most=most)
        assert quotas.most(team, "replicas", of="gpu") == most
    assert (quotas.most(team, "replicas", of="cpu"), quotas.most(TeamFactory(), "replicas", of="cpu")) == (2, 4)
    assert quotas.most(TeamFactory(), "replicas", of="gpu") == 3


def test_the_platform_s_own_team_has_none(team: Team) -> None:
    Quota.objects.create(team=None, what="deployments", most=0)
    platform = Team.objects.get_or_create(is_platform=True, defaults={"slug": "p", "name": "P"})[0]
    quotas.check(platform, "deployments", used=lambda: 5)
    with pytest.raises(QuotaReached):
        quotas.check(team, "deployments", used=lambda: 0)


def test_the_team_s_page_shows_each_with_what_is_in_use(
    team: Team, client: Client, django_assert_max_num_queries: Any
) -> None:
    member = MembershipFactory(team=team)
    _deploy(team, "one", max_replicas=2)
    keys.issue(team, name="ci")
    for what, most in (("deployments", 5), ("replicas", 2), ("keys", 10), ("members", 3), ("storage", 10**9)):
        Quota.objects.create(team=team, what=what, most=most)
    client.force_login(member.user)
    Deployment.objects.update(status="stopped")
    assert "awake or asleep" in client.get("/team/").content.decode(), "before there is any, too"
    Deployment.objects.update(status="pending")
    with django_assert_max_num_queries(12):
        page = client.get("/team/").content.decode()
    for said in ("1 of 5", "2 of 2", "1 of 10", "1 of 3", "0 bytes of", "on cpu-small may grow to", "awake or asleep"):
        assert said in page.replace("\xa0", " "), said


def test_a_key_beyond_the_quota_is_not_made(team: Team, client: Client) -> None:
    Quota.objects.create(team=team, what="keys", most=1)
    client.force_login(MembershipFactory(team=team).user)
    answers = [client.post("/keys/", {"name": "k", "scopes": "models"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert "quota is 1 live API keys, and 1 are in use" in answers[1].content.decode()
    keys.revoke(team.api_keys.get())
    assert client.post("/keys/", {"name": "k", "scopes": "models"}).status_code == 200


def test_a_team_s_own_storage_quota_counts_before_the_portal_s(team: Team, settings: Any) -> None:
    settings.WEIGHTS_TEAM_QUOTA = 100
    assert storing.most_bytes(team) == 100
    Quota.objects.create(team=team, what="storage", most=0)
    assert storing.most_bytes(team) == 0
    settings.WEIGHTS_TEAM_QUOTA = 0
    assert storing.most_bytes(TeamFactory()) is None
