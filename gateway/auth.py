"""Key -> who calls. Answers are kept for a few seconds, so a revoked key opens nothing after that."""

import time
from dataclasses import dataclass
from uuid import UUID

from accounts import keys
from gateway.errors import invalid_api_key
from gateway.stores import Stores

FRESH_S = 4.0
LONGEST_KEY = 200
MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Caller:
    team_id: UUID
    team_slug: str
    time_zone: str
    api_key_name: str


class Doorkeeper:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._known: dict[str, tuple[float, Caller | None]] = {}

    async def caller(self, headers: dict[bytes, bytes]) -> Caller:
        """Who this is, or 401 with one text for every bad key. Never older than FRESH_S."""
        text = _key_in(headers)
        if len(text) > LONGEST_KEY or not keys.SHAPE.fullmatch(text):
            raise invalid_api_key()
        digest = keys.digest(text)
        until, caller = self._known.get(digest, (0.0, None))
        if until < time.monotonic():
            caller = await self._stores.ask(lambda: _look_up(text))
            if len(self._known) > MOST_REMEMBERED:
                self._known.clear()
            self._known[digest] = (time.monotonic() + FRESH_S, caller)
        if caller is None:
            raise invalid_api_key()
        return caller


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
    return Caller(key.team_id, key.team.slug, key.team.time_zone, f"{key.name} ({key.prefix})")
