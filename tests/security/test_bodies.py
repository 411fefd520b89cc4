"""Another team's things named in a body or a query: as if they were not there, and nothing of them is told."""

import json
from typing import Any

from django.test import Client

from accounts.models import ApiKey
from catalog.models import Weights
from tests.security.world import TeamWorld


def _api(world: TeamWorld, method: str, path: str, body: Any) -> tuple[int, str]:
    client = Client(raise_request_exception=False)
    answer = getattr(client, method)(
        f"/api/v1/{path}", json.dumps(body), content_type="application/json",
        headers={"authorization": f"Bearer {world.key}"},
    )  # fmt: skip
    return answer.status_code, answer.content.decode()


def test_no_body_reaches_another_team_s_things(ours: TeamWorld, theirs: TeamWorld) -> None:
    their_model = Weights.objects.get(pk=theirs.ids["weights"]).model.slug
    mine, small = ours.ids["deployment"], {"model": "smollm2-135m-instruct", "hardware": "cpu-small"}
    tried = [
        ("post", "deployments", small | {"model": their_model}),
        ("post", "deployments", small | {"adapters": [str(theirs.ids["weights"])]}),
        ("post", "deployments", small | {"adapters": [their_model]}),
        ("patch", f"deployments/{mine}", {"adapters": [str(theirs.ids["weights"])]}),
        ("patch", f"deployments/{mine}", {"revision": str(theirs.ids["weights"])}),
        ("put", f"deployments/{mine}/validation", {"prompt_set": str(theirs.ids["prompt_set"])}),
        ("post", f"deployments/{mine}/validations", {"prompt_set": str(theirs.ids["prompt_set"])}),
        ("post", "aliases", {"name": "x", "targets": [{"model": "theirs/small", "weight": 1}]}),
        ("post", "aliases", {"name": "x", "targets": [{"model": "theirs/chat-main", "weight": 1}]}),
        ("post", "advice", {"model": their_model}),
        ("post", "licences/agreements",
         {"model": their_model, "licence": "mit", "use": "internal", "text_sha256": "0"}),
    ]  # fmt: skip
    wrong = [(path, body, answer) for method, path, body in tried
             if not 400 <= (answer := _api(ours, method, path, body))[0] < 500]  # fmt: skip
    assert wrong == []


PAGES = (
    "/playground/?prompt={prompt}", "/playground/?model=theirs/small", "/playground/models?name=theirs/small",
    "/playground/models?q=theirs", "/models/compare?m={model}", "/advisor/?model={model}",
    "/deployments/new?model={model}",
    "/deployments/new?model=smollm2-135m-instruct&version={weights}", "/licences/agree/?model={model}",
    "/billing/?team=theirs&scope=all", "/billing/rows/?key={key}&team=theirs", "/billing/?deployment=theirs/small",
    "/requests/?key=theirs", "/models/{model}/?tab=use&key={prefix}",
    "/models/smollm2-135m-instruct/?tab=use&key={prefix}",
    "/keys/?key={prefix}", "/team/audit/?team=theirs", "/budgets/?subject={key}", "/limits/?key={prefix}",
    "/weights/upload?draft={draft}", "/weights/upload?base={weights}", "/models/?q=theirs", "/models/?publisher=theirs",
)  # fmt: skip


def test_no_query_shows_another_team_s_things(ours: TeamWorld, theirs: TeamWorld) -> None:
    prefix = ApiKey.objects.get(pk=theirs.ids["key"]).prefix
    client, wrong = ours.client("owner"), []
    for address in PAGES:
        sought = address.format(**theirs.ids | {"prefix": prefix})
        answer = client.get(sought)
        # What was asked for is said again; what was not is theirs alone.
        told = {
            word for word in ("theirs-key", "owner@theirs.example.com", "theirs/small", prefix) if word not in sought
        }
        text = answer.getvalue().decode()
        if answer.status_code >= 500 or any(word in text for word in told):
            wrong.append((sought, answer.status_code))
    assert wrong == []


def test_no_form_reaches_another_team_s_things(ours: TeamWorld, theirs: TeamWorld) -> None:
    client, prefix = ours.client("owner"), ApiKey.objects.get(pk=theirs.ids["key"]).prefix
    before = ApiKey.objects.filter(pk=theirs.ids["key"]).values().get()
    forms: list[tuple[str, dict[str, Any]]] = [
        ("/limits/", {"key": prefix, "requests_per_minute": 1}),
        ("/budgets/new/", {"about": f"key:{theirs.ids['key']}", "usd": "1", "period": "monthly"}),
        ("/team/switch/", {"team": "theirs"}),
        ("/licences/", {"default_use": "internal", "other_name": "theirs/small", "other_use": "product"}),
        ("/playground/prompts/save", {"name": "x", "message": "m", "id": theirs.ids["prompt"]}),
    ]
    said = [(path, client.post(path, form).status_code) for path, form in forms]
    assert [one for one in said if one[0] != "/playground/prompts/save" and not 400 <= one[1] < 500] == []
    assert theirs.team.budgets.count() == 1
    assert not theirs.team.licensed_uses.exists()
    assert ApiKey.objects.filter(pk=theirs.ids["key"]).values().get() == before
