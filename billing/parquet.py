"""The detail as Parquet: the rows of the CSV, typed, in groups of ROWS. Needs pyarrow (the extra `parquet`)."""

import importlib.util
import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

from billing import copying, detail
from billing.errors import NoParquet
from billing.scope import Scope

ROWS = 25_000
_NUMBERS = {"quantity": (24, 6), "unit_price": (38, 18), "list_price": (24, 12), "discount": (5, 2), "cost": (38, 18)}
_TIMES = {"at"}


def installed() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def as_parquet(scope: Scope) -> Iterator[bytes]:
    """The file in pieces. Raises NoParquet at once where pyarrow is not installed."""
    if not installed():
        raise NoParquet
    return _pieces(scope)


def _pieces(scope: Scope) -> Iterator[bytes]:
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet

    schema, sink = _schema(), _Sink()
    reading = {
        "read_options": arrow_csv.ReadOptions(column_names=schema.names),
        "parse_options": arrow_csv.ParseOptions(newlines_in_values=True),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=True, null_values=[""]
        ),
    }
    lines = detail.chained(scope, copying.rows(detail.query(scope)))
    with pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(lines, ROWS)):
            writer.write_table(arrow_csv.read_csv(io.BytesIO(b"\n".join(group)), **reading))
            yield sink.taken()
    yield sink.taken()


def _schema() -> Any:
    import pyarrow

    def typed(name: str) -> Any:
        if name in _NUMBERS:
            return pyarrow.decimal128(*_NUMBERS[name])
        if name in _TIMES:
            return pyarrow.timestamp("us", tz="UTC")
        return {"entry": pyarrow.int64(), "date": pyarrow.date32()}.get(name, pyarrow.string())

    return pyarrow.schema([(name, typed(name)) for name in detail.COLUMNS])


class _Sink(io.RawIOBase):
    """A file that is only written to; what was written is taken out piece by piece."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken
