"""A deployment's page in parts, each of which is sent again when it has changed, and only then."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from accounts.models import Team
from deployments import costs, figures, loads, logs, remedies, starts, status
from deployments import overview as overviews
from deployments.backends import backends
from deployments.costs import Costs, Lately
from deployments.lifecycle import IN_MOTION, Status
from deployments.loads import Loads
from deployments.models import Deployment, Orphan, Replica
from deployments.status import Report
from deployments.watching import Frame, Seat

PAGE, LIST = "deployments/detail.html", "deployments/list.html"
LIVE, LOGS, VERSIONS, COST = "live", "logs", "versions", "cost"
TABS = (LIVE, LOGS, VERSIONS, COST)
EVENTS, VERSIONS_SHOWN, LOG_LINES = 40, 30, 300
ORPHANS = 5

# The form token differs at each rendering, and lengths of time with each second: neither is a change of the page.
PLACE_OF_TOKEN = "the-form-token"  # noqa: S105 - stands where the token is put in
_TICKING = re.compile(r"(<time data-since[^>]*>)[^<]*|(<progress data-since[^>]*?) value=\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class Eyes:
    """Who looks, from where: what decides on how the parts are drawn."""

    team: Team
    may_change: bool
    is_staff: bool
    token: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a deployment's page is shown: the tab, and in its log which replica, which lines."""

    tab: str = LIVE
    replica: UUID | None = None
    q: str = ""
    before: int | None = None


@dataclass(slots=True)
class Page:
    """One deployment's page for one viewer. `sent` is what the viewer has: part -> digest."""

    pk: UUID
    eyes: Eyes
    shown: Shown
    position: int | None = None
    followed: str = ""
    sent: dict[str, str] = field(default_factory=dict)

    def frame(self, seat: Seat) -> Frame:
        """The parts that differ from what was sent, and what the log has got more."""
        seat.watches = {str(self.pk)}
        report = status.watched(self.eyes.team, self.pk)
        if report is None:
            return Frame([], 0, is_over=True)
        fresh = [html for name, html in self.parts(report).items() if self._is_new(name, html)]
        events: list[tuple[str, object]] = [("parts", fresh)] if fresh else []
        if self.shown.tab == LOGS and self.shown.before is None and (more := self._log_since(report)):
            events.append(("log", more))
        return Frame(events, _pause_s(report, self.shown.tab), is_over=report.is_over)

    def parts(self, report: Report) -> dict[str, SafeString]:
        """Name -> HTML, with its digest in `data-seen`."""
        spent = self._spent(report)
        given = self._common(report) | {"costs": spent, "attempt_cost": _attempt_cost(spent)}
        drawn = {"head": _draw(PAGE, "head", given), "timeline": _draw(PAGE, "timeline", given)}
        match self.shown.tab:
            case "live":
                held = loads.now()
                drawn["now"] = _draw(PAGE, "now", given | {"figures": figures.of(report, held)})
                drawn["replicas"] = _draw(PAGE, "replicas", given | {"replicas": _replicas(report, held)})
            case "logs":
                drawn["engines"] = _draw(PAGE, "engines", given | self._choice(report))
            case "versions":
                drawn["versions"] = _draw(PAGE, "versions", given | {"versions": _versions(report.row)})
            case "cost":
                drawn["cost"] = _draw(PAGE, "cost", given)
        return {name: _wrapped(name, html, self.eyes.token) for name, html in drawn.items()}

    def log(self, report: Report) -> dict[str, Any]:
        """The lines that the page begins with."""
        replica = self._chosen(report)
        if replica is None:
            return {"part": None, "lines": "", "chosen": None}
        shown = self.shown
        part = logs.last(report.row, replica, lines=LOG_LINES, before=shown.before, q=shown.q)
        return {"part": part, "lines": lines(part, q=shown.q), "chosen": replica}

    def _log_since(self, report: Report) -> dict[str, object] | None:
        """What the viewer lacks: `followed` is whose lines he has, up to `position`. A newer engine is begun with."""
        replica = self._chosen(report)
        if replica is None:
            return None
        if str(replica.pk) != self.followed:
            self.followed, self.position = str(replica.pk), 0
        part = logs.after(report.row, replica, self.position or 0, q=self.shown.q)
        if part.ends == self.position:
            return None
        self.position = part.ends
        return {"ends": part.ends, "html": lines(part, q=self.shown.q), "replica": str(replica.pk)}

    def _chosen(self, report: Report) -> Replica | None:
        """The one that was asked for, else the newest."""
        replicas = report.row.replicas.order_by("-created_at")
        asked = replicas.filter(pk=self.shown.replica) if self.shown.replica else replicas
        return asked.first()

    def _choice(self, report: Report) -> dict[str, Any]:
        rows = report.row.replicas.select_related("version").order_by("-created_at")
        replicas = list(rows[: settings.ENGINE_LOGS_KEPT])
        asked = self.shown.replica
        among = next((one for one in replicas if asked is None or one.pk == asked), None)
        return {
            "replicas": replicas,
            "chosen": among or (self._chosen(report) if asked else None),
            "kept_days": settings.ENGINE_LOG_DAYS,
        }

    def _common(self, report: Report) -> dict[str, Any]:
        row = report.row
        events = list(row.events.order_by("-at", "-pk")[:EVENTS])
        past, start = starts.known(report, events)
        evidence, _, evidence_log = row.detail.partition("\n\n")
        return {
            "report": report,
            "deployment": row,
            "shown": self.shown,
            "may_change": self.eyes.may_change,
            "token": PLACE_OF_TOKEN,
            "events": events,
            "past": past,
            "start": start,
            "remedies": remedies.offered(row),
            "evidence": evidence,
            "evidence_log": evidence_log,
        }

    def _spent(self, report: Report) -> Costs | Lately | None:
        """What the tab shows of it, and why it failed tells."""
        if self.shown.tab == COST:
            return costs.of(report, until=report.row.next_born)  # type: ignore[attr-defined]
        if self.shown.tab == LIVE or report.row.status == Status.FAILED:
            return costs.lately(report)
        return None

    def _is_new(self, name: str, html: SafeString) -> bool:
        seen = _digest_in(html)
        if self.sent.get(name) == seen:
            return False
        self.sent[name] = seen
        return True


@dataclass(slots=True)
class List:
    """The list of a team's deployments for one viewer."""

    eyes: Eyes
    most_over: int = overviews.MOST_OVER
    sent: str = ""
    page: int = 1

    def frame(self, seat: Seat) -> Frame:
        overview = overviews.of(self.eyes.team, most_over=self.most_over, page=self.page)
        seat.watches = {str(one.report.row.pk) for one in overview.rows if not one.report.is_over}
        html = self.part(overview)
        if _digest_in(html) == self.sent:
            return Frame([], _list_pause_s(overview))
        self.sent = _digest_in(html)
        return Frame([("parts", [html])], _list_pause_s(overview))

    def part(self, overview: overviews.Overview) -> SafeString:
        orphans = list(Orphan.objects.all()[:ORPHANS]) if self.eyes.is_staff else []
        given = {"overview": overview, "team": self.eyes.team, "orphans": orphans, "base_url": self.eyes.base_url}
        return _wrapped("rows", _draw(LIST, "rows", given), self.eyes.token)


def own(team: Team, pk: UUID) -> Deployment | None:
    """The team's own, or none: another team's does not exist here."""
    return Deployment.objects.of(team).select_related("team").filter(pk=pk).first()


def lines(part: logs.Part, *, q: str = "") -> SafeString:
    """Each line with its position, and what was searched for marked."""
    mark = _marker(q)
    return mark_safe(  # noqa: S308 - each line is escaped by its marker
        "".join(f'<span data-at="{line.at}">{mark(line.text)}\n</span>' for line in part.lines)
    )


def _marker(q: str) -> Callable[[str], SafeString]:
    if not q:
        return lambda text: format_html("{}", text)
    found = re.compile(f"({re.escape(q)})", re.I)

    def mark(text: str) -> SafeString:
        pieces = found.split(text)
        return mark_safe(  # noqa: S308 - each piece is escaped
            "".join(format_html("<mark>{}</mark>" if n % 2 else "{}", piece) for n, piece in enumerate(pieces))
        )

    return mark


def _draw(template: str, part: str, given: Mapping[str, Any]) -> str:
    return render_to_string(f"{template}#{part}", dict(given))


def _wrapped(name: str, html: str, token: str) -> SafeString:
    digest = hashlib.sha256(_TICKING.sub(r"\1\2", html).encode()).hexdigest()[:16]
    inner = mark_safe(html.replace(PLACE_OF_TOKEN, token))  # noqa: S308 - Django's own rendering
    return format_html('<div id="part-{}" class="part" data-seen="{}">{}</div>', name, digest, inner)


def _digest_in(html: str) -> str:
    return html.split('data-seen="', 1)[1][:16]


def _pause_s(report: Report, tab: str) -> float:
    """What comes without being told: an engine's own words, numbers, log lines."""
    if report.is_coming or report.is_updating or report.shown_status in IN_MOTION:
        return 0.5
    if tab == LOGS:
        return 1.0
    return 2.0 if report.replicas else 5.0


def _list_pause_s(overview: overviews.Overview) -> float:
    is_moving = any(one.report.shown_status in IN_MOTION for one in overview.rows)
    return 1.0 if is_moving else 5.0


def _attempt_cost(spent: Costs | Lately | None) -> Decimal | None:
    lately = spent.lately if isinstance(spent, Costs) else spent
    return lately.attempt if lately else None


def _replicas(report: Report, held: Loads) -> list[dict[str, Any]]:
    """The live ones first, then the last that ended."""
    backend = backends[report.row.backend]
    ended = report.lately[: status.ENDED_SHOWN]
    live = [
        {"row": one, "calls": held.calls[one.name], "memory": backend.memory(one.name), "state": _state(one)}
        for one in report.replicas
    ]
    return live + [{"row": one, "calls": None, "memory": None, "state": _state(one)} for one in ended]


def _state(replica: Replica) -> str:
    if replica.exited_at:
        return "failed" if replica.crashed else "stopped"
    if replica.remove_asked_at:
        return "stopping"
    if replica.unhealthy_since:
        return "unhealthy"
    return "ready" if replica.ready_at else "starting"


def _versions(row: Deployment) -> list[Any]:
    return list(row.versions.select_related("weights", "hardware")[:VERSIONS_SHOWN])
