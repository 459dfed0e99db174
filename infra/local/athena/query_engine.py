"""SQL in Athena's dialect over the bucket: sqlglot translates it, DuckDB answers it."""

import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from sqlglot import TokenType, exp

from .catalog import (
    Catalog,
    QueryFailedError,
    Question,
    Table,
    literal,
)

# DuckDB's names for result types -> Athena's.
_ATHENA_TYPES = {"HUGEINT": "bigint", "FLOAT": "float"}

# How sqlglot marks a place for terminals.
_UNDERLINED = re.compile(r"\x1b\[\d+m")


class BytesLimitError(QueryFailedError):
    """A query has read more than its work group lets it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query as text (None for NULL), as Athena gives them; none of an INSERT."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    scanned_bytes: int
    inserted: int = 0


class QueryEngine:
    """Answers questions; keeps what it has fetched of the bucket, for each owner apart."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._etags: dict[Path, str] = {}

    def answer(
        self, question: Question, started: Callable[[Callable[[], None]], None] = lambda _: None
    ) -> Answer:
        """Run one SELECT, or one INSERT INTO … SELECT; `started` is given what interrupts it.

        Raises:
            QueryFailedError: it does not parse, names what is not there, or fails.
            BytesLimitError: it has read more than it may.
        """
        statement = parse(question.sql, question.parameters)
        with duckdb.connect(":memory:") as connection:
            started(connection.interrupt)
            try:
                connection.execute("SET TimeZone = 'UTC'")
                # Else it reads more of Parquet than it needs, which Athena does not count.
                connection.execute("SET disable_parquet_prefetching = true")
                catalog = Catalog(connection, question, self._files)
                if isinstance(statement, exp.Insert):
                    return _insert(catalog, statement)
                return _select(catalog, statement)
            except duckdb.Error as error:
                raise QueryFailedError(str(error)) from error

    def _files(self, question: Question, location: str) -> list[Path]:
        """A table's objects as files; DuckDB's own S3 reader would have to be fetched."""
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        with self._lock:
            return list(self._fetch(question, bucket, prefix))

    def _fetch(self, question: Question, bucket: str, prefix: str) -> Iterator[Path]:
        s3 = question.clients("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                file = self._cache / (question.owner or "administrator") / bucket / entry["Key"]
                if self._etags.get(file) != entry["ETag"]:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, entry["Key"], str(file))
                    self._etags[file] = entry["ETag"]
                yield file


def parse(sql: str, parameters: Sequence[str]) -> exp.Query | exp.Insert:
    """A statement with its parameters in the place of the question marks.

    Raises:
        QueryFailedError: it is none, a question mark stands where Athena binds none, or there is
            another number of parameters.
    """
    try:
        _check_marks(sqlglot.parse_one(sql, read="athena"))
        statement = sqlglot.parse_one(_bound(sql, parameters), read="athena")
    except sqlglot.errors.SqlglotError as error:
        raise QueryFailedError(f"SYNTAX_ERROR: {_UNDERLINED.sub('', str(error))}") from error
    if not isinstance(statement, exp.Query | exp.Insert):
        raise QueryFailedError("the local cloud answers queries and INSERT INTO, nothing else")
    return statement


def _check_marks(statement: exp.Expr) -> None:
    # https://docs.aws.amazon.com/athena/latest/ug/querying-with-prepared-statements.html
    if not all(mark.find_ancestor(exp.Where) for mark in statement.find_all(exp.Placeholder)):
        raise QueryFailedError("a question mark can be placed only in the WHERE clause")


def _bound(sql: str, parameters: Sequence[str]) -> str:
    marks = [
        token
        for token in sqlglot.tokenize(sql, read="athena")
        if token.token_type is TokenType.PLACEHOLDER
    ]
    if len(marks) != len(parameters):
        raise QueryFailedError(
            f"Incorrect number of parameters: expected {len(marks)} but found {len(parameters)}"
        )
    # From the last one on, so that places before it stay where they are.
    for mark, parameter in zip(reversed(marks), reversed(parameters), strict=True):
        value = sqlglot.parse_one(parameter, read="athena")
        if value.find(exp.Column, exp.Query, exp.Command):
            raise QueryFailedError(f"SYNTAX_ERROR: {parameter} is not a constant expression")
        sql = f"{sql[: mark.start]}({value.sql(dialect='athena')}){sql[mark.end + 1 :]}"
    return sql


def _select(catalog: Catalog, query: exp.Query) -> Answer:
    catalog.attach_all(query)
    _name_columns(query)
    with catalog.measured() as measured:
        result = catalog.connection.execute(query.sql(dialect="duckdb"))
        columns = [(each[0], _athena_type(str(each[1]))) for each in result.description]
        rows = [[_text(value) for value in row] for row in result.fetchall()]
    _limit(catalog.question, measured())
    return Answer(columns, rows, scanned_bytes=measured())


def _name_columns(query: exp.Query) -> None:
    """As Athena calls a column that has no name."""
    for number, each in enumerate(query.selects):
        if not isinstance(each, exp.Alias | exp.Column | exp.Star):
            each.replace(exp.alias_(each.copy(), f"_col{number}"))


def _insert(catalog: Catalog, statement: exp.Insert) -> Answer:
    """Write the rows as one Parquet object for each partition, as Athena names them."""
    target = statement.this
    table = catalog.table(target.this if isinstance(target, exp.Schema) else target)
    columns = table.columns | table.partitions
    given = [each.name for each in target.expressions] if isinstance(target, exp.Schema) else []
    if not table.parquet or len(table.partitions) != 1 or given not in ([], list(columns)):
        raise QueryFailedError("the local cloud inserts whole rows into Parquet, partitioned once")
    (key,) = table.partitions
    catalog.attach_all(statement.expression)
    with catalog.measured() as measured:
        catalog.connection.execute(_rows_to_insert(statement.expression, columns))
    _limit(catalog.question, measured())
    counts = catalog.connection.execute(
        f'SELECT "{key}", count(*) FROM inserted GROUP BY 1'  # nosec B608 # noqa: S608 - of the catalog
    ).fetchall()
    bucket, _, prefix = table.location.removeprefix("s3://").partition("/")
    for value, _count in counts:
        catalog.question.clients("s3").put_object(
            Bucket=bucket,
            Key=f"{prefix.rstrip('/')}/{key}={value}/{uuid.uuid4()}",
            Body=_parquet(catalog, table, key, value),
        )
    inserted = sum(count for _, count in counts)
    return Answer([], [], scanned_bytes=measured(), inserted=inserted)


def _rows_to_insert(query: exp.Query, columns: dict[str, str]) -> str:
    """Athena goes by the columns' positions; their types are the table's."""
    names = ", ".join(f'"{name}"' for name in columns)
    cast = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in columns.items())
    return (
        f"CREATE TEMP TABLE inserted AS SELECT {cast}"  # nosec B608 # noqa: S608 - of the catalog
        f" FROM ({query.sql(dialect='duckdb')}) AS given({names})"
    )


def _parquet(catalog: Catalog, table: Table, key: str, value: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        catalog.connection.execute(
            f'COPY (SELECT * EXCLUDE "{key}" FROM inserted WHERE "{key}" = {literal(value)})'  # nosec B608 # noqa: S608 - of the catalog
            f" TO {literal(str(file))} (FORMAT parquet, COMPRESSION {table.compression})"
        )
        return file.read_bytes()


def _limit(question: Question, scanned: int) -> None:
    if question.limit is not None and scanned > question.limit:
        raise BytesLimitError(f"Bytes scanned limit was exceeded: {question.limit} bytes")


def _athena_type(duckdb_type: str) -> str:
    plain = duckdb_type.partition("(")[0]
    return _ATHENA_TYPES.get(plain, plain.lower())


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "hour"):
        return str(value.isoformat(sep=" ", timespec="milliseconds"))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={v}" for k, v in value.items()) + "}"
    return str(value)
