import os
import time
from typing import Any, TypeVar

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Team
from catalog import library
from catalog.licensing.policy import Use
from catalog.models import Hardware, Model
from deployments import operations, rehearsing
from deployments.engines.base import Option, Switch, Text
from deployments.errors import BadOption, DeploymentError
from deployments.lifecycle import Status
from deployments.models import Deployment
from deployments.preparing import loads, weights_of

Row = TypeVar("Row")
LOOK_EVERY_S = 0.25
ENDED = {Status.READY, Status.ASLEEP, Status.FAILED, Status.STOPPED}


class Command(BaseCommand):
    help = (
        "Deploy a model for a team. Its endpoint's name goes to stdout; with --dry-run, what would happen as JSON, and "
        "nothing is written. A secret's value is read from this command's own environment, never from its arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, metavar="SLUG")
        parser.add_argument("--model", required=True, metavar="SLUG")
        parser.add_argument("--hardware", required=True, metavar="SLUG")
        parser.add_argument("--name", default="", help="empty: the model's own")
        parser.add_argument("--revision", default="", help="of the weights; empty: what the model's offer says")
        parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="the engine's")
        parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="the team can read it")
        parser.add_argument("--secret", action="append", default=[], metavar="NAME", help="a variable that is set here")
        parser.add_argument("--adapter", action="append", default=[], metavar="ID_OR_SLUG[=SCALE]")
        parser.add_argument("--use", choices=Use.values, default="", help="what for; left out: the team's default")
        for name in operations.ELASTIC:
            parser.add_argument(f"--{name.replace('_', '-')}", type=int)
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--wait", action="store_true", help="until it is ready; fails if it fails")

    def handle(self, *args: Any, **asked: Any) -> None:
        team = _one(Team.objects.filter(slug=asked["team"]).first(), "team", asked["team"])
        model = _one(library.visible_to(team).filter(slug=asked["model"]).first(), "model", asked["model"])
        found = Hardware.objects.filter(slug=asked["hardware"]).first()
        hardware = _one(found, "hardware", asked["hardware"])
        try:
            wish = self._wish(model, asked)
            if asked["dry_run"]:
                plan = rehearsing.rehearse(team, model=model, hardware=hardware, **wish)
                self.stdout.write(orjson.dumps(plan.as_json(), option=orjson.OPT_INDENT_2).decode())
                return
            made = operations.deploy(team, model=model, hardware=hardware, actor="portal", **wish)
        except BadOption as error:
            raise CommandError(f"{error.option}: {error}") from error
        except DeploymentError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(made.endpoint_model)
        if asked["wait"]:
            self._wait(made)

    def _wish(self, model: Model, asked: dict[str, Any]) -> dict[str, Any]:
        numbers = {name: asked[name] for name in operations.ELASTIC if asked[name] is not None}
        engine = loads(weights_of(model, asked["revision"])).engine
        known = {option.name: option for option in engine.options}
        return numbers | {
            "name": asked["name"],
            "revision": asked["revision"],
            "use": asked["use"],
            "options": {name: _read(known.get(name), text) for name, text in _pairs("--option", asked["option"])},
            "env": dict(_pairs("--env", asked["env"])),
            "secrets": {name: self._secret(name) for name in asked["secret"]},
            "adapters": asked["adapter"],
        }

    def _secret(self, name: str) -> str:
        value = os.environ.get(name, "")
        if not value:
            raise CommandError(f"--secret {name}: its value is taken from this command's environment; set it there")
        return value

    def _wait(self, made: Deployment) -> None:
        while made.status not in ENDED:
            time.sleep(LOOK_EVERY_S)
            made.refresh_from_db()
        if made.status != Status.READY:
            raise CommandError(f"{made.endpoint_model} is {made.status}: {made.get_reason_display()} {made.detail}")


def _one(row: Row | None, kind: str, slug: str) -> Row:
    if row is None:
        raise CommandError(f"There is no {kind} {slug!r}")
    return row


def _pairs(flag: str, texts: list[str]) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"{flag} takes NAME=VALUE, not {name!r}")
        found.append((name, value))
    return found


def _read(option: Option | None, text: str) -> Any:
    """As JSON where the option is no text: a number, true or false."""
    if isinstance(option, Text) or option is None:
        return text
    if isinstance(option, Switch) and text in {"on", "off"}:
        return text == "on"
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
