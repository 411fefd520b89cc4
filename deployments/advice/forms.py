"""The advisor's form. Its fields are the address' parameters, so that what somebody sees can be passed on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms

from billing.meters import METERS, TOKENS_INPUT, TOKENS_INPUT_CACHED, TOKENS_OUTPUT
from billing.rating import PRICE_LIMIT
from catalog.models import Hardware
from deployments.advice import amounts
from deployments.advice.costing import Elastic
from deployments.advice.reckoning import Wish
from deployments.advice.traffic import RHYTHMS, Rhythm, Speed
from deployments.operations import FIRST_NUMBERS, LONGEST_IDLE_S, LONGEST_START_S, MOST_CONCURRENCY, MOST_REPLICAS

TOKENS, CALLS = "tokens", "calls"
TRACE, TRACE_ALL = "trace", "trace-all"
SHAPES = [
    ("steady", "Steady, around the clock"),
    ("office", "Office hours: 8 h, Monday to Friday"),
    ("bursty", "Bursty: 20 min, six times a day"),
    ("nightly", "Nightly: 2 h a day"),
    (TRACE, "My last 30 days: calls of this model"),
    (TRACE_ALL, "My last 30 days: all calls"),
]
MOST_VOLUME, MOST_TOKENS = Decimal(10) ** 13, 10_000_000
FIRST = {
    "volume": "100 M", "unit": TOKENS, "input": 2000, "output": 500, "cached": 0, "shape": "steady", "cold": "yes",
    "idle": FIRST_NUMBERS["idle_window_s"], "peak": 1, "own_cached": 0,
}  # fmt: skip
MAY_BE_EMPTY = ("idle", "peak", "own_cached")
"""These stand in their empty fields, so that an address is short."""
# A price that can be entered: its field, for which meter.
PRICES = {"price_input": TOKENS_INPUT, "price_cached": TOKENS_INPUT_CACHED, "price_output": TOKENS_OUTPUT}
_TWELVE = Decimal(1).scaleb(-12)


@dataclass(frozen=True, slots=True)
class Entered:
    """What somebody says of a hardware, USD for a second; None: nothing."""

    per_second: Decimal | None = None
    speed: Speed | None = None
    start_s: float | None = None
    source: str = ""


class AdviceForm(forms.Form):
    model = forms.CharField(widget=forms.HiddenInput, required=False, max_length=100)
    volume = forms.CharField(
        label="Volume a month", max_length=30, help_text="2 B, 350 M, 1,200; tokens in and out together."
    )
    unit = forms.ChoiceField(choices=[(TOKENS, "tokens"), (CALLS, "calls")])
    input = forms.IntegerField(label="Tokens in a prompt", min_value=0, max_value=MOST_TOKENS)
    output = forms.IntegerField(label="Tokens in an answer", min_value=0, max_value=MOST_TOKENS)
    cached = forms.DecimalField(
        label="Of the prompt from cache, %", min_value=0, max_value=100, max_digits=6, decimal_places=3, required=False,
        help_text="Hosted prices have one of their own for it.",
    )  # fmt: skip
    shape = forms.ChoiceField(label="When calls come", choices=SHAPES)
    days = forms.IntegerField(label="Days a week", min_value=1, max_value=7, required=False)
    times = forms.IntegerField(label="Times a day", min_value=1, max_value=96, required=False)
    minutes = forms.IntegerField(label="Minutes each time", min_value=1, max_value=1440, required=False)
    peak = forms.FloatField(
        label="Peak, times the even flow", min_value=1, max_value=100, required=False,
        help_text="In flight at the busiest moment, against the mean of busy hours.",
    )  # fmt: skip
    cold = forms.ChoiceField(label="May a call wait for a start?", choices=[("yes", "yes, some"), ("no", "no, never")])
    first_token_ms = forms.FloatField(
        label="First token within, ms", min_value=1, max_value=600_000, required=False, help_text="Empty: any."
    )
    tokens_per_s = forms.FloatField(
        label="Tokens/s for one caller", min_value=0.1, max_value=10_000, required=False, help_text="Empty: any."
    )
    idle = forms.IntegerField(
        label="Falls asleep after, seconds", min_value=30, max_value=LONGEST_IDLE_S, required=False,
        help_text="Without a call. A deployment's own default is 600.",
    )  # fmt: skip
    most = forms.IntegerField(
        label="Most replicas", min_value=1, max_value=MOST_REPLICAS, required=False,
        help_text="Empty: as many as the busiest moment needs.",
    )  # fmt: skip
    always = forms.IntegerField(
        label="Always on, at least", min_value=1, max_value=MOST_REPLICAS, required=False,
        help_text="Empty: as many as the busiest moment needs.",
    )  # fmt: skip
    own_cached = forms.DecimalField(
        label="Cached on own replicas, %", min_value=0, max_value=100, max_digits=6, decimal_places=3, required=False,
        help_text="Of the prompt, not read again. A replica that slept has no cache.",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any] | None, *, hardware: Iterable[Hardware] = ()) -> None:
        """What is left out of the address is filled in with FIRST."""
        first = {name: value for name, value in FIRST.items() if name not in MAY_BE_EMPTY}
        super().__init__(first | {name: value for name, value in (data or {}).items() if value != ""})
        for name in MAY_BE_EMPTY:
            self.fields[name].widget.attrs["placeholder"] = FIRST[name]
        self.hardware = list(hardware)
        self.said = {name for name, value in (data or {}).items() if value != ""}
        for name, meter in PRICES.items():
            self.fields[name] = forms.DecimalField(
                label=f"{meter.label}, $ per million", min_value=0, max_digits=14, decimal_places=6, required=False
            )
        for one in self.hardware:
            self.fields |= _fields_of(one)
        for field in self.fields.values():
            if isinstance(field.widget, forms.NumberInput):
                field.widget.attrs |= {"inputmode": "decimal", "step": "any"}
            if not isinstance(field.widget, forms.HiddenInput):
                field.widget.attrs |= {"class": "input", "autocomplete": "off"}

    def clean_volume(self) -> Decimal:
        try:
            found = amounts.read(self.cleaned_data["volume"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        if not 1 <= found <= MOST_VOLUME:
            raise forms.ValidationError("Write a number from 1 to 10 T.")
        return found

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("input") == 0 and said.get("output") == 0:
            self.add_error("input", "A call reads or writes at least one token.")
        each = (said.get("input") or 0) + (said.get("output") or 0)
        if said.get("unit") == CALLS and "volume" in said and said["volume"] * each > MOST_VOLUME:
            self.add_error("volume", "That is more than 10 T tokens a month.")
        if (said.get("times") or 1) * (said.get("minutes") or 0) > 1440:
            self.add_error("minutes", "A day has 1,440 minutes.")
        for one in self.hardware:
            self._check_speed(said, one)
        return said

    def _check_speed(self, said: dict[str, Any], one: Hardware) -> None:
        reads, writes = said.get(f"reads-{one.slug}"), said.get(f"writes-{one.slug}")
        if (reads is None) != (writes is None):
            empty = "writes" if writes is None else "reads"
            self.add_error(f"{empty}-{one.slug}", "Both are needed: how fast it reads, and how fast it writes.")
        elif reads is not None and not said.get(f"source-{one.slug}"):
            self.add_error(f"source-{one.slug}", "Say where these figures come from.")

    @property
    def is_trace(self) -> bool:
        return str(self.cleaned_data["shape"]) in {TRACE, TRACE_ALL}

    @property
    def calls(self) -> Decimal:
        said = self.cleaned_data
        return said["volume"] if said["unit"] == CALLS else said["volume"] / (said["input"] + said["output"])

    @property
    def rhythm(self) -> Rhythm:
        said = self.cleaned_data
        preset = RHYTHMS.get(said["shape"], RHYTHMS["steady"])
        times = said["times"] or preset.times
        minutes = min(said["minutes"] or preset.minutes, 1440 / times)
        return Rhythm(said["days"] or preset.days, times, minutes)

    @property
    def elastic(self) -> Elastic:
        said = self.cleaned_data
        return Elastic(said["idle"] or FIRST["idle"], said["most"], said["always"])

    @property
    def wish(self) -> Wish:
        said = self.cleaned_data
        return Wish(said["cold"] == "yes", said["tokens_per_s"], said["first_token_ms"])

    def share(self, name: str) -> Decimal:
        """A percentage as a part of one."""
        return (self.cleaned_data[name] or Decimal(0)) / 100

    @property
    def prices(self) -> dict[str, Decimal]:
        """meter -> USD for one unit, as entered."""
        said = {meter: self.cleaned_data[name] for name, meter in PRICES.items()}
        return {meter.name: (price / meter.per).quantize(_TWELVE) for meter, price in said.items() if price is not None}

    def entered(self, slug: str) -> Entered:
        said = self.cleaned_data
        hour, start_s = said[f"hour-{slug}"], said[f"start-{slug}"]
        reads, writes = said[f"reads-{slug}"], said[f"writes-{slug}"]
        speed = Speed(reads, writes, said[f"at_once-{slug}"] or 4) if reads and writes else None
        per_second = (hour / METERS["compute.seconds"].per).quantize(_TWELVE) if hour is not None else None
        return Entered(per_second, speed, start_s, said[f"source-{slug}"] or "")

    @property
    def main(self) -> list[forms.BoundField]:
        return [self[name] for name in ("input", "output", "cached", "shape", "cold")]

    @property
    def more(self) -> list[forms.BoundField]:
        names = ("days", "times", "minutes", "peak", "first_token_ms", "tokens_per_s", "idle", "most", "always")
        return [self[name] for name in (*names, "own_cached")]

    @property
    def more_is_wrong(self) -> bool:
        return any(field.errors for field in self.more)

    @property
    def more_is_said(self) -> bool:
        return any(self.was_said(field.name) for field in self.more)

    @property
    def prices_are_said(self) -> bool:
        return any(self.was_said(name) or self[name].errors for name in PRICES)

    @property
    def price_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in PRICES]

    def mark(self, name: str, *, known: str, wanted: bool) -> None:
        """In an empty field stands what is known; one that the answer waits for is told from the others."""
        attrs = self.fields[name].widget.attrs
        attrs["placeholder"] = known or "not known"
        attrs["class"] = "input wanted" if wanted else "input"

    def fields_of(self, slug: str) -> list[forms.BoundField]:
        return [self[f"{name}-{slug}"] for name in ("hour", "reads", "writes", "at_once", "start", "source")]

    def is_entered(self, slug: str) -> bool:
        return any(self.was_said(f"{name}-{slug}") for name in ("hour", "reads", "writes", "start"))

    def was_said(self, name: str) -> bool:
        return name in self.said


def _fields_of(one: Hardware) -> dict[str, forms.Field]:
    """Names hold the slug, which has no capital letters and no spaces."""
    return {
        f"hour-{one.slug}": forms.DecimalField(
            label="Price, $ an hour", min_value=0, max_value=PRICE_LIMIT, max_digits=14, decimal_places=6,
            required=False,
        ),
        f"reads-{one.slug}": forms.FloatField(label="Reads, tokens/s", min_value=1, max_value=1e9, required=False),
        f"writes-{one.slug}": forms.FloatField(label="Writes, tokens/s", min_value=1, max_value=1e9, required=False),
        f"at_once-{one.slug}": forms.IntegerField(
            label="With calls at once", min_value=1, max_value=MOST_CONCURRENCY, required=False
        ),
        f"start-{one.slug}": forms.FloatField(
            label="A start takes, s", min_value=0, max_value=LONGEST_START_S, required=False
        ),
        f"source-{one.slug}": forms.CharField(label="Where from", max_length=200, required=False),
    }  # fmt: skip
