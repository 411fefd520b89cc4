"""What is read from the gateway's events, and what a page is told of it: pure."""

import json

from playground.said import Reader, Said, Telling


def chunk(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def test_the_phases_of_a_start_are_told_apart_with_their_seconds() -> None:
    reader = Reader(said := Said())
    for phase, waited in (("asleep", 1), ("waking", 2), ("waking", 3)):
        reader.feed(f": modelport phase={phase} waited_s={waited} expected_s=4\n\n".encode())
    assert said.wake == [
        {"phase": "asleep", "since_s": 0, "waited_s": 1, "expected_s": 4},
        {"phase": "waking", "since_s": 1, "waited_s": 3, "expected_s": 4},
    ]
    assert not said.has_begun


def test_reasoning_and_text_are_two_things() -> None:
    reader = Reader(said := Said())
    for event in (chunk(reasoning_content="Hm"), chunk(reasoning="..."), chunk(content="Yes"), b"data: [DONE]\n\n"):
        reader.feed(event)
    assert (said.reasoning, said.text) == ("Hm...", "Yes")


def test_a_call_that_skips_a_place_is_left_out() -> None:
    reader = Reader(said := Said())
    reader.feed(chunk(tool_calls=[{"index": 7, "id": "x", "function": {"name": "f", "arguments": "{}"}}]))
    assert said.calls == []


def test_a_page_is_told_only_what_it_lacks() -> None:
    said, telling = Said(), Telling()
    assert [news["state"] for news in telling.more(said)] == ["running"]
    said.text = "One"
    assert list(telling.more(said)) == [{"text": "One"}]
    assert list(telling.more(said)) == []
    said.text, said.state = "One two", "done"
    assert list(telling.more(said)) == [{"text": " two", "state": "done"}]


def test_what_is_written_down_is_read_back_the_same() -> None:
    said = Said(
        text="One", calls=[{"id": "a", "name": "f", "arguments": "{}"}], state="done", receipt={"cost_usd": "0.1"}
    )
    assert Said.of(said.json()) == said
