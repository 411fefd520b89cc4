"""How a deployment answers: calls, tokens, first tokens, failures and replicas over the last hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.safestring import SafeString

from deployments import charts, tallies
from deployments.loads import Loads
from deployments.status import HOUR, Report
from deployments.tallies import Sum

FIVE_MINUTES, MINUTE = timedelta(minutes=5), timedelta(minutes=1)
BINS = 60


@dataclass(frozen=True, slots=True)
class Figures:
    """`minute`, `five_minutes` and `hour` are what ended in the time until now; a call counts when it ends. `calls`,
    `tokens`, `first_tokens_ms` and `replicas` are the hour in minutes, oldest first."""

    minute: Sum
    five_minutes: Sum
    hour: Sum
    in_flight: int
    waiting: int
    calls: Sequence[int]
    tokens: Sequence[int]
    first_tokens_ms: Sequence[float]
    replicas: Sequence[int]

    @property
    def calls_per_s(self) -> float:
        return self.minute.calls / 60

    @property
    def tokens_per_s(self) -> float:
        return self.minute.tokens_out / 60

    @property
    def first_token_ms(self) -> float | None:
        """The median of the last five minutes, or of the hour if nothing began in those."""
        recent = self.five_minutes.first_token_ms(0.5)
        return recent if recent is not None else self.hour.first_token_ms(0.5)

    @property
    def slow_first_token_ms(self) -> float | None:
        recent = self.five_minutes.first_token_ms(0.9)
        return recent if recent is not None else self.hour.first_token_ms(0.9)

    @property
    def calls_chart(self) -> SafeString:
        return charts.spark(self.calls, label=f"Calls a minute over the last hour: at most {max(self.calls)}")

    @property
    def tokens_chart(self) -> SafeString:
        most = max(self.tokens)
        return charts.spark(self.tokens, label=f"Tokens written a minute over the last hour: at most {most}")

    @property
    def first_token_chart(self) -> SafeString:
        most = f"{max(self.first_tokens_ms):.0f}"
        return charts.spark(self.first_tokens_ms, label=f"Median first token over the last hour: at most {most} ms")

    @property
    def replicas_chart(self) -> SafeString:
        return charts.steps(self.replicas, label=f"Replicas awake over the last hour: at most {max(self.replicas)}")


def of(report: Report, held: Loads) -> Figures:
    """Of a report for a page, and of what the gateways hold."""
    row, now = report.row, timezone.now()
    begins = now - HOUR
    steps = tallies.steps(row.pk, since=begins)
    minutes = [Sum() for _ in range(BINS)]
    for at, one in steps.items():
        minutes[max(0, min(BINS - 1, int((at - begins) / MINUTE)))].add(one)
    return Figures(
        minute=_since(steps, now - MINUTE),
        five_minutes=_since(steps, now - FIVE_MINUTES),
        hour=_since(steps, begins),
        in_flight=sum(held.calls[replica.name] for replica in report.replicas),
        waiting=held.waiting[str(row.pk)],
        calls=[one.calls for one in minutes],
        tokens=[one.tokens_out for one in minutes],
        first_tokens_ms=[one.first_token_ms(0.5) or 0.0 for one in minutes],
        replicas=_awake(report, begins),
    )


def _since(steps: dict[datetime, Sum], begins: datetime) -> Sum:
    total = Sum()
    for at, one in steps.items():
        if at + timedelta(seconds=tallies.STEP_S) > begins:
            total.add(one)
    return total


def _awake(report: Report, begins: datetime) -> list[int]:
    """How many replicas took calls at the end of each minute."""
    ran = [*report.replicas, *report.lately]
    spans = [(one.ready_at, one.remove_asked_at or one.exited_at) for one in ran]
    moments = [begins + (n + 1) * MINUTE for n in range(BINS)]
    return [sum(ready <= at and (end is None or end >= at) for ready, end in spans if ready) for at in moments]
