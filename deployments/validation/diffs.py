"""What is different between two texts, word by word. Pure."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import NamedTuple

WORDS = re.compile(r"\s+|\w+|[^\w\s]")
# Comparing takes the square of this; what is longer in the middle is shown as replaced.
MOST_WORDS = 1200


class Piece(NamedTuple):
    """`kind` is same, gone (expected, and not there) or new (there, and not expected)."""

    kind: str
    text: str


def words(expected: str, got: str) -> tuple[Piece, ...]:
    left, right = WORDS.findall(expected), WORDS.findall(got)
    head = _common(left, right)
    tail = _common(left[head:][::-1], right[head:][::-1])
    middle = _middle(left[head : len(left) - tail], right[head : len(right) - tail])
    pieces = [Piece("same", "".join(left[:head])), *middle, Piece("same", "".join(left[len(left) - tail :]))]
    return tuple(piece for piece in pieces if piece.text)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def _middle(left: list[str], right: list[str]) -> list[Piece]:
    if max(len(left), len(right)) > MOST_WORDS:
        return [Piece("gone", "".join(left)), Piece("new", "".join(right))]
    pieces = []
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(left[a:b])))
        else:
            pieces += [Piece("gone", "".join(left[a:b])), Piece("new", "".join(right[c:d]))]
    return pieces
