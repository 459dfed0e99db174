"""Results of Athena queries: Athena returns every value as text, with the types of the columns."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

Row = Sequence[str | None]

_INTEGERS = frozenset({"tinyint", "smallint", "integer", "int", "bigint"})
_NUMBERS = frozenset({"double", "float", "real", "decimal"})


class Column(Struct, frozen=True):
    """A column of a result; `kind` is its Athena type, for example varchar."""

    name: str
    kind: str

    @property
    def numeric(self) -> bool:
        return self._base in _INTEGERS or self._base in _NUMBERS

    @property
    def convert(self) -> Callable[[str], Any]:
        """Conversion to a Python value; types without a closer one stay text."""
        if self._base in _INTEGERS:
            return int
        if self._base in _NUMBERS:
            return float
        return _boolean if self._base == "boolean" else str

    @property
    def _base(self) -> str:
        return self.kind.partition("(")[0]  # decimal(10,2)


class Page(Struct, frozen=True):
    """Some rows of a result; `next_token` is None on the last page."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    next_token: str | None = None


def typed_rows(columns: Iterable[Column], rows: Iterable[Row]) -> Iterator[list[Any]]:
    """The rows as Python values, None for NULL."""
    converters = [column.convert for column in columns]
    for row in rows:
        yield [
            None if cell is None else convert(cell)
            for convert, cell in zip(converters, row, strict=True)
        ]


def json_value(value: Any) -> Any:
    """The value, or None for NaN and infinities, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _boolean(text: str) -> bool:
    return text == "true"
