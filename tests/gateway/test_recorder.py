"""What a process noted of its calls is there for the next one, and only once it is dead."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Team
from billing import metering
from billing.models import LedgerEntry, Reservation, UsageEvent
from gateway import recorder
from gateway.recorder import CHECK, HEAD, ID, RECORD, Left, Recorder, Slot
from gateway.runtime import Runtime
from gateway.usage import Tally
from tests.factories.accounts import TeamFactory
from tests.factories.billing import call

OPENAI = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}


def left_in(folder: Path) -> dict[UUID, Left]:
    found = {}
    for remains in recorder.remains(folder):
        found |= {left.id: left for left in remains.calls}
        remains.let_go()
    return found


def noted(folder: Path, tally: Tally, **how: bool) -> tuple[Recorder, Slot, UUID]:
    process, call_id = Recorder(folder, slots=2), uuid4()
    slot = process.open(call_id, tally)
    slot.note(**({"begun": True} | how))
    return process, slot, call_id


def test_what_was_noted_is_read_once_its_process_is_dead(tmp_path: Path) -> None:
    tally = Tally(9)
    process, slot, call_id = noted(tmp_path, tally, begun=False)
    for _ in range(3):
        tally.delivered("four")
        slot.note(begun=True)
    tally.openai(OPENAI)
    slot.note(begun=False, ended=True)
    assert left_in(tmp_path) == {}, "it lives"
    process.close()
    (left,) = left_in(tmp_path).values()
    assert (left.id, left.begun, left.measured) == (call_id, True, True)
    assert left.tally == tally
    assert abs((datetime.now(UTC) - left.at).total_seconds()) < 60


def test_a_count_on_the_way_is_no_measurement_of_a_call_whose_gateway_died(tmp_path: Path) -> None:
    tally = Tally(9)
    tally.delivered("four")
    tally.openai(OPENAI)
    process, _, call_id = noted(tmp_path, tally)
    process.close()
    assert tally.measured
    assert not left_in(tmp_path)[call_id].measured


def test_a_call_that_was_closed_is_not_left_and_a_file_without_calls_goes(tmp_path: Path) -> None:
    process, slot, _ = noted(tmp_path, Tally(9))
    slot.close()
    slot.close()
    second = process.open(uuid4(), Tally(1))
    second.close()
    process.close()
    assert list(tmp_path.iterdir()) == []


@given(tears=st.sets(st.integers(0, CHECK.size + HEAD.size - 1), min_size=1, max_size=4))
def test_a_record_that_was_torn_leaves_the_one_before_it(
    tmp_path_factory: pytest.TempPathFactory, tears: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("calls")
    tally = Tally(9)
    process, slot, call_id = noted(folder, tally)  # the first record is that of `open`, this is the second
    tally.delivered("four")
    slot.note(begun=True)
    tally.delivered("four")
    slot.note(begun=True)
    assert process.memory
    newest = ID + slot.number % 2 * RECORD + (slot.at or 0)
    for tear in tears:
        process.memory[newest + tear] ^= 0xFF
    process.close()
    assert left_in(folder)[call_id].tally.chunks == 1


def test_where_nothing_can_be_noted_calls_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = Recorder(tmp_path / "file" / "calls")
    process.open(uuid4(), Tally(1)).note(begun=True)
    process.close()
    small = Recorder(tmp_path / "calls", slots=1)
    first, second = (small.open(uuid4(), Tally(1)) for _ in range(2))
    second.note(begun=True)
    second.close()
    first.close()
    small.close()
    assert left_in(tmp_path / "calls") == {}


def test_a_report_too_long_for_its_place_leaves_the_counts(tmp_path: Path) -> None:
    tally = Tally(9)
    tally.openai(OPENAI | {"more": "x" * 5000})
    process, _, call_id = noted(tmp_path, tally)
    process.close()
    found = left_in(tmp_path)[call_id].tally
    assert (found.counted, found.usage) == (tally.counted, None)


@pytest.mark.django_db(transaction=True)
def test_the_next_gateway_bills_what_a_dead_one_had_read_and_releases_the_rest(tmp_path: Path, settings: Any) -> None:
    settings.GATEWAY_CALLS_DIR = str(tmp_path)
    team = TeamFactory()
    measured, cut, unbegun, billed = (_let_in(team) for _ in range(4))
    process = Recorder(tmp_path)
    whole, part = Tally(9), Tally(9)
    for tally, call_id, ended in ((whole, measured, True), (part, cut, False)):
        tally.delivered("four")
        if ended:
            tally.openai(OPENAI)
        process.open(call_id, tally).note(begun=True, ended=ended)
    process.open(unbegun, Tally(9))
    process.open(billed, part).note(begun=True)
    process.open(uuid4(), part).note(begun=True)  # its reservation was never written
    metering.settle(metering.Settlement(id=billed, quantities={"tokens.input": Decimal(7)}, ended_at=datetime.now(UTC)))
    process.close()

    asyncio.run(_live_for_a_moment())
    assert list(tmp_path.iterdir()) == []
    events = {event.id: event for event in UsageEvent.objects.filter(team=team)}
    assert events.keys() == {measured, cut, billed}
    assert (events[measured].quality, events[measured].raw_usage) == ("measured", OPENAI)
    assert (events[cut].quality, events[cut].quantities) == ("estimated", {"tokens.input": "9", "tokens.output": "1"})
    assert events[billed].quantities == {"tokens.input": "7"}
    states = dict(Reservation.objects.filter(team=team).values_list("pk", "state"))
    assert states == {measured: "settled", cut: "settled", billed: "settled", unbegun: "void"}
    assert LedgerEntry.objects.filter(event_id=billed).count() == 1


def _let_in(team: Team) -> UUID:
    made = call(team)
    metering.reserve(made)
    return made.id


async def _live_for_a_moment() -> None:
    runtime = Runtime()
    await runtime.start()
    await runtime.close()
