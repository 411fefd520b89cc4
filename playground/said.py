"""What an answer has said so far: read from the gateway's events, written for pages. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway import sse
from playground import problems

COMMENT = re.compile(rb": modelport phase=(\S+) waited_s=([0-9]+)(?: expected_s=([0-9]+))?\s*")
REASONING = ("reasoning_content", "reasoning")


@dataclass(slots=True)
class Said:
    """`wake` is the phases of a start that was waited for: {phase, since_s, waited_s, expected_s}. `problem` says why
    there is no more; `receipt` what it cost; `fits` whether it is of the schema that was asked for."""

    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    wake: list[dict[str, Any]] = field(default_factory=list)
    finish: str = ""
    state: str = "running"
    problem: dict[str, Any] | None = None
    receipt: dict[str, Any] | None = None
    fits: dict[str, Any] | None = None

    @property
    def has_begun(self) -> bool:
        return bool(self.text or self.reasoning or self.calls)

    @property
    def is_over(self) -> bool:
        return self.state != "running"

    def rest(self) -> dict[str, Any]:
        """All but what only grows."""
        return {
            "calls": [dict(call) for call in self.calls],
            "wake": [dict(phase) for phase in self.wake],
            "finish": self.finish,
            "state": self.state,
            "problem": self.problem,
            "receipt": self.receipt,
            "fits": self.fits,
        }

    def json(self) -> str:
        return orjson.dumps({"text": self.text, "reasoning": self.reasoning, **self.rest()}).decode()

    @classmethod
    def of(cls, json: str) -> "Said":
        return cls(**orjson.loads(json))


class Reader:
    """Feed it the gateway's stream of chat/completions, event by event; it keeps `said` up to date."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._events = sse.Reader()

    def feed(self, event: bytes) -> None:
        if event.startswith(b":"):
            self._waited(event)
            return
        for data in self._events.feed(event):
            if data != b"[DONE]":
                self._chunk(orjson.loads(data))

    def _waited(self, comment: bytes) -> None:
        if not (found := COMMENT.match(comment)):
            return
        name, waited_s = found[1].decode("ascii", "replace"), int(found[2])
        expected_s = int(found[3]) if found[3] else None
        wake = self._said.wake
        if not wake or wake[-1]["phase"] != name:
            wake.append({"phase": name, "since_s": wake[-1]["waited_s"] if wake else 0})
        wake[-1] |= {"waited_s": waited_s, "expected_s": expected_s}

    def _chunk(self, chunk: dict[str, Any]) -> None:
        if error := chunk.get("error"):
            self._said.problem = problems.explained(str(error.get("code") or ""), str(error.get("message") or ""))
            return
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._said.text += str(delta.get("content") or delta.get("refusal") or "")
            self._said.reasoning += str(next((delta[name] for name in REASONING if delta.get(name)), ""))
            for call in delta.get("tool_calls") or ():
                self._call(call)
            self._said.finish = choice.get("finish_reason") or self._said.finish

    def _call(self, part: dict[str, Any]) -> None:
        """The first part of a call names it; the later ones only add to its arguments."""
        place, calls = int(part.get("index") or 0), self._said.calls
        if place > len(calls):
            return
        if place == len(calls):
            calls.append({"id": "", "name": "", "arguments": ""})
        function = part.get("function") or {}
        mine = calls[place]
        mine["id"] = mine["id"] or str(part.get("id") or "")
        mine["name"] = mine["name"] or str(function.get("name") or "")
        mine["arguments"] += str(function.get("arguments") or "")


class Telling:
    """What one page has been told of an answer. `more` gives what it lacks: text to add, and the rest as it is now."""

    def __init__(self) -> None:
        self._text = self._reasoning = 0
        self._rest: dict[str, Any] = {}

    def more(self, said: Said) -> Iterator[dict[str, Any]]:
        news: dict[str, Any] = {}
        if len(said.text) > self._text:
            news["text"] = said.text[self._text :]
        if len(said.reasoning) > self._reasoning:
            news["reasoning"] = said.reasoning[self._reasoning :]
        rest = said.rest()
        news |= {name: value for name, value in rest.items() if name not in self._rest or self._rest[name] != value}
        self._text, self._reasoning, self._rest = len(said.text), len(said.reasoning), rest
        if news:
            yield news
