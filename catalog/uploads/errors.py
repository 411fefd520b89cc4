"""What can go wrong with an upload.

CatalogError
    Refused   a request is answered with `status` and this text; `headers` go with it
"""

from collections.abc import Mapping

from catalog.errors import CatalogError


class Refused(CatalogError):
    def __init__(self, status: int, text: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})
