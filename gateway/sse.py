"""Server-sent events, read as they come: bytes in, the `data` of whole events out."""


class Reader:
    """Feed it chunks cut anywhere; it gives each event's data (lines joined by a line feed). Comments are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            text = line.removesuffix(b"\r")
            if not text:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif text.startswith(b"data:"):
                self._data.append(text[5:].removeprefix(b" "))
        return events

    def rest(self) -> list[bytes]:
        """The stream is over: the event that was begun, if its line came whole."""
        return self.feed(b"\n\n") if self._rest or self._data else []

    @property
    def cut_short(self) -> bool:
        """True if an event was begun and its end never came."""
        return bool(self._data or self._rest.strip())
