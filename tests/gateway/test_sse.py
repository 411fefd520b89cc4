"""The reader finds whole events however the bytes are cut."""

import pytest

from gateway.sse import Reader

STREAM = b': hello\r\n\r\ndata: {"a": "\xc3\xa9"}\r\n\r\nevent: x\ndata: one\ndata: two\n\ndata:[DONE]\n\n'
EVENTS = [b'{"a": "\xc3\xa9"}', b"one\ntwo", b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    reader = Reader()
    found = [event for at in range(0, len(STREAM), size) for event in reader.feed(STREAM[at : at + size])]
    assert found == EVENTS
    assert not reader.cut_short


def test_an_event_without_its_end_is_cut_short() -> None:
    reader = Reader()
    assert reader.feed(b"data: half") == []
    assert reader.cut_short
