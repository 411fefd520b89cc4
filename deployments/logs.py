"""What engines have written, as people may see it: line by line, backwards, searched, followed. Kept after death.

A position is a place in an engine's whole output, in bytes; it stays the same while older output is dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from accounts import sealing
from deployments import masking
from deployments.backends import backends
from deployments.models import Deployment, Replica

MOST_LINES = 1000
LONGEST_LINE, LONGEST_EVIDENCE = 4000, 300
CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """Lines, oldest first. `begins`: what is kept before them is read with `before=begins`; None: that is all there is.
    `ends`: what comes later is read with `after=ends`. `skipped`: some were left out to catch up."""

    lines: tuple[Line, ...]
    begins: int | None
    ends: int
    skipped: bool = False


def last(row: Deployment, replica: Replica, *, lines: int, before: int | None = None, q: str = "") -> Part:
    """The last lines of what is kept, or of what stands before a position; with `q` those that contain it, in any case
    of letters. All that is kept is searched: at most the 8 MiB that a backend keeps of an engine."""
    first, end = _span(row, replica)
    if before is not None:
        end = max(first, min(before, end))
    secrets, wanted = _secrets(replica), min(lines, MOST_LINES)
    found: list[Line] = []
    for at, raw in _backwards(row, replica, first=first, end=end):
        if q and not _may_contain(raw, q):
            continue
        line = _line(at, raw, secrets)
        if not q or q.casefold() in line.text.casefold():
            found.append(line)
        if len(found) == wanted:
            break
    begins = found[-1].at if len(found) == wanted and found[-1].at > first else None
    return Part(tuple(reversed(found)), begins, end)


def after(row: Deployment, replica: Replica, position: int, *, q: str = "") -> Part:
    """What was written since a position; of more than a chunk only the end."""
    first, end = _span(row, replica)
    begin = max(first, min(position, end))
    skipped = begin > position or end - begin > CHUNK
    begin = max(begin, end - CHUNK)
    raw = backends[row.backend].log_bytes(replica.name, begin=begin, end=end)
    if skipped and begin > first:
        cut = raw.find(b"\n") + 1
        begin, raw = begin + cut, raw[cut:]
    secrets = _secrets(replica)
    lines = [_line(at, text, secrets) for at, text in _split(begin, raw)]
    return Part(tuple(one for one in lines if q.casefold() in one.text.casefold()), None, end, skipped)


def whole(row: Deployment, replica: Replica) -> Iterator[str]:
    """All that is kept, a line at a time, with its line's end."""
    position, end = _span(row, replica)
    secrets = _secrets(replica)
    rest = b""
    while position < end:
        raw = rest + backends[row.backend].log_bytes(replica.name, begin=position, end=min(end, position + CHUNK))
        position = min(end, position + CHUNK)
        body, newline, rest = raw.rpartition(b"\n")
        for _, text in _split(0, body + newline):
            yield _line(0, text, secrets).text + "\n"
    if rest:
        yield _line(0, rest, secrets).text + "\n"


def tail(row: Deployment, replica: Replica, *, lines: int) -> list[str]:
    """The beginnings of its last lines, also after its death. They are cut once no secret is in them: of one that is
    cut in two, neither half would be known."""
    secrets = _secrets(replica)
    said = backends[row.backend].log(replica.name, lines=lines)
    return [masking.clean(line, secrets=secrets)[:LONGEST_EVIDENCE] for line in said]


def head(row: Deployment, replica: Replica, *, size: int) -> list[str]:
    """The first lines of what is kept: those of its start, unless it has written very much since."""
    first, end = _span(row, replica)
    raw = backends[row.backend].log_bytes(replica.name, begin=first, end=min(end, first + size))
    secrets = _secrets(replica)
    return [_line(at, text, secrets).text for at, text in _split(first, raw)]


def _secrets(replica: Replica) -> list[str]:
    """What this engine knows and nobody may read in its log."""
    sealed = [replica.sealed_key] if replica.sealed_key else []
    given = replica.version.sealed_secrets.values() if replica.version else ()
    known = [sealing.unseal(one) for one in (*sealed, *given)]
    # Of a text of several lines, such as a private key, each is a secret: an output is shown line by line.
    return [line.strip() for one in known for line in one.splitlines()]


def _span(row: Deployment, replica: Replica) -> tuple[int, int]:
    """What is kept; of an engine that lives up to its last whole line."""
    first, end = backends[row.backend].log_span(replica.name)
    if replica.exited_at is None and end > first:
        raw = backends[row.backend].log_bytes(replica.name, begin=max(first, end - CHUNK), end=end)
        end -= len(raw) - (raw.rfind(b"\n") + 1)
    return first, end


def _backwards(row: Deployment, replica: Replica, *, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(position, line) from the last to the first, read in chunks."""
    unfinished = b""  # the line that the chunk before this one began in
    while end > first:
        begin = max(first, end - CHUNK)
        raw = backends[row.backend].log_bytes(replica.name, begin=begin, end=end) + unfinished
        cut = raw.find(b"\n") + 1 if begin > first else 0
        if cut == 0 and begin > first:
            unfinished, end = raw, begin
            continue
        yield from reversed(list(_split(begin + cut, raw[cut:])))
        unfinished, end = raw[:cut], begin


def _split(begin: int, raw: bytes) -> Iterator[tuple[int, bytes]]:
    for line in raw.splitlines(keepends=True) if b"\r" not in raw else _at_newlines(raw):
        yield begin, line.rstrip(b"\r\n")
        begin += len(line)


def _at_newlines(raw: bytes) -> list[bytes]:
    """Lines with their ends; a carriage return alone ends none."""
    parts = raw.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _line(at: int, raw: bytes, secrets: list[str]) -> Line:
    return Line(at, masking.clean(raw.decode(errors="replace"), secrets=secrets)[:LONGEST_LINE])


def _may_contain(raw: bytes, q: str) -> bool:
    """Cheap, and never wrong in saying no: what is not plain text is looked at more closely."""
    return not raw.isascii() or not q.isascii() or b"\x1b" in raw or q.lower().encode() in raw.lower()
