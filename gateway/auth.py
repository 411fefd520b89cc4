"""Key -> who calls. Answers are kept for a few seconds, so a revoked key opens nothing after that."""

from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings

from accounts import keys
from accounts.models import ApiKey, Scope, Team
from accounts.scopes import lacking
from catalog.licensing import agreements
from catalog.licensing.policy import Policy
from gateway.contents import is_on
from gateway.errors import invalid_api_key, missing_scope
from gateway.limits import Rule
from gateway.models import Limits
from gateway.remembering import Remembered
from gateway.stores import Stores

FRESH_S = 4.0
LONGEST_KEY = 200
MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Caller:
    """`rules` are the limits that its calls count against; `keeps_prompts`: its team wants them in its request log.
    `member` is the e-mail of the person behind it, `tag` the label of calls that bring none; `policy` says which
    licences its team may use for what."""

    team_id: UUID
    team_slug: str
    time_zone: str
    api_key_name: str
    api_key_id: UUID | None = None
    rules: tuple[Rule, ...] = field(default=())
    keeps_prompts: bool = False
    member: str = ""
    tag: str = ""
    policy: Policy = field(default_factory=Policy)
    scopes: tuple[str, ...] = (Scope.MODELS,)


class Doorkeeper:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._known: Remembered[str, Caller | None] = Remembered(fresh_s=FRESH_S, most=MOST_REMEMBERED)
        self._digests: dict[str, str] = {}

    async def caller(self, headers: dict[bytes, bytes]) -> Caller:
        """Who this is, or 401 with one text for every bad key, or 403 for one that may not call models. Never older
        than FRESH_S."""
        text = _key_in(headers)
        if len(text) > LONGEST_KEY or not keys.SHAPE.fullmatch(text):
            raise invalid_api_key()
        digest = self._digests.get(text) or keys.digest(text)
        caller = await self._known.get(digest, lambda: self._stores.ask(lambda: _look_up(text)))
        if caller is None:
            raise invalid_api_key()
        if text not in self._digests:
            if len(self._digests) >= MOST_REMEMBERED:
                self._digests.clear()
            self._digests[text] = digest
        if Scope.MODELS not in caller.scopes:
            raise missing_scope(lacking(list(caller.scopes), Scope.MODELS))
        return caller


def session_caller(team: Team, *, member: str = "") -> Caller:
    """Somebody of the team in the browser, where there is no key; the team's own limits hold."""
    return _caller(team, "playground", None, member=member)


def _key_in(headers: dict[bytes, bytes]) -> str:
    scheme, _, text = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return text.strip().decode("latin-1")
    return headers.get(b"x-api-key", b"").strip().decode("latin-1")


def _look_up(text: str) -> Caller | None:
    key = keys.look_up(text)
    if key is None:
        return None
    keys.touch(key)
    member = key.created_by.email if key.created_by else ""
    return _caller(key.team, f"{key.name} ({key.prefix})", key, member=member)


def _caller(team: Team, name: str, key: ApiKey | None, *, member: str) -> Caller:
    return Caller(
        team.pk,
        team.slug,
        team.time_zone,
        name,
        key.pk if key else None,
        _rules(team, key),
        is_on(team),
        member,
        key.tag if key else "",
        agreements.policy_of(team.pk),
        tuple(key.scopes) if key else (Scope.MODELS,),
    )


def _rules(team: Team, key: ApiKey | None) -> tuple[Rule, ...]:
    """The team's limits, or the portal's for teams that have none; and the key's own."""
    rows = {row.api_key_id: row for row in Limits.objects.filter(team=team)}
    mine = rows.get(None)
    rules = [_rule("team", f"{{{team.pk}}}:t", mine) if mine else _default(f"{{{team.pk}}}:t")]
    if key is not None and key.pk in rows:
        rules.append(_rule("key", f"{{{team.pk}}}:k:{key.pk}", rows[key.pk]))
    return tuple(rule for rule in rules if rule.requests_per_minute or rule.tokens_per_minute or rule.concurrency)


def _rule(scope: str, name: str, row: Limits) -> Rule:
    return Rule(scope, name, row.requests_per_minute, row.tokens_per_minute, row.concurrency)


def _default(name: str) -> Rule:
    return Rule(
        "team",
        name,
        settings.GATEWAY_TEAM_RPM or None,
        settings.GATEWAY_TEAM_TPM or None,
        settings.GATEWAY_TEAM_CONCURRENCY or None,
    )
