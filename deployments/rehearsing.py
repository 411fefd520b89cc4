"""A dry run: what a deployment would be, or what would be refused and why. Nothing is written, nothing started."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accounts.models import Team
from deployments import operations, sizing
from deployments.errors import BadName, BadOption, NotDeployable, Unlicensed
from deployments.operations import Wish
from deployments.preparing import Site


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`refused` names the field and says why; with a wish it is only what stands in its way now, such as its name."""

    team: Team
    wish: Wish | None
    site: Site | None
    command: list[str]
    refused: list[tuple[str, str]]

    @property
    def would_deploy(self) -> bool:
        return self.wish is not None and not self.refused

    @property
    def endpoint_model(self) -> str:
        return f"{self.team.slug}/{self.wish.name}" if self.wish else ""

    @property
    def most_per_hour(self) -> Decimal | None:
        """With as many replicas as it may have, all awake."""
        if self.wish is None or self.site is None or self.site.per_hour is None:
            return None
        return self.site.per_hour * int(self.wish.numbers["max_replicas"])

    @property
    def environment_names(self) -> list[str]:
        """Names alone: nobody is told a value."""
        return sorted({**self.wish.what.env, **self.wish.what.secrets}) if self.wish else []

    def as_json(self) -> dict[str, Any]:
        wish, site = self.wish, self.site
        told: dict[str, Any] = {
            "dry_run": True,
            "would_deploy": self.would_deploy,
            "refused": [{"field": field, "text": text} for field, text in self.refused],
        }
        if wish is None or site is None:
            return told
        estimate, loaded = site.estimate, wish.what.loaded
        return told | {
            "endpoint_model": self.endpoint_model,
            "hardware": site.hardware.slug,
            "revision": loaded.chosen.revision,
            "engine": loaded.engine_name,
            "engine_version": loaded.engine.version(),
            "options": wish.what.options,
            "adapters": [str(one.weights.pk) for one in loaded.adapters],
            "command": self.command,
            "environment": self.environment_names,
            "use": wish.use,
            "fit": site.fit.value,
            "memory": {
                "low_bytes": estimate.total.low,
                "likely_bytes": estimate.total.likely,
                "high_bytes": estimate.total.high,
                "has_bytes": site.hardware.memory_gib * sizing.GIB,
                "measured_bytes": estimate.measured,
                "formula": estimate.formula,
                "parts": [{"name": p.name, "bytes": p.bytes.likely, "text": p.text} for p in estimate.parts],
            },
            "price_per_second": _exact(site.per_second),
            "price_per_hour": _exact(site.per_hour),
            "price_per_hour_asleep": "0",
            "price_per_hour_at_most": _exact(self.most_per_hour),
            "price_per_million_tokens": _exact(site.tokens_price),
        }


def rehearse(team: Team, **wish: Any) -> Rehearsal:
    """What `operations.deploy` would do with the same arguments."""
    try:
        found = operations.check(team, **wish)
    except BadName as error:
        return _refused(team, "name", error)
    except BadOption as error:
        return _refused(team, error.option, error)
    except Unlicensed as error:
        return _refused(team, "licence", error)
    except NotDeployable as error:
        return _refused(team, "hardware", error)
    taken = f"{team.slug}/{found.name} is running already: stop it first, or choose another name"
    refused = [("name", taken)] if found.name_is_taken else []
    return Rehearsal(team, found, found.site, found.command, refused)


def _refused(team: Team, field: str, error: Exception) -> Rehearsal:
    return Rehearsal(team, None, None, [], [(field, str(error))])


def _exact(amount: Decimal | None) -> str | None:
    return f"{amount.normalize():f}" if amount is not None else None
