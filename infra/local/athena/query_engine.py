"""Execution of SQL in Athena's dialect: sqlglot translates it, DuckDB executes it."""

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

from .catalog import Catalog, Query, QueryFailedError, Table, literal

# DuckDB's name of a result type -> Athena's, where they differ by more than case.
_ATHENA_TYPES = {"HUGEINT": "bigint", "FLOAT": "float"}

# sqlglot underlines the position of an error with these terminal codes.
_UNDERLINED = re.compile(r"\x1b\[\d+m")


class BytesLimitError(QueryFailedError):
    """A query exceeded the bytes scanned limit of its work group."""


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The result of a statement; an INSERT has no columns and no rows.

    `columns` are (name, type) pairs. Values are strings in Athena's format, or None for NULL.
    """

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    scanned_bytes: int
    inserted: int = 0


class QueryEngine:
    """Executes queries; caches the fetched objects on disk, separately for each role."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._etags: dict[Path, str] = {}

    def execute(
        self, query: Query, on_start: Callable[[Callable[[], None]], None] = lambda _: None
    ) -> ResultSet:
        """Execute one SELECT or INSERT INTO ... SELECT.

        `on_start` receives a function that interrupts the query.

        Raises:
            QueryFailedError: the statement is invalid, names a missing table, or fails.
            BytesLimitError: the statement read more than its limit.
        """
        statement = parse(query.sql, query.parameters)
        with duckdb.connect(":memory:") as connection:
            on_start(connection.interrupt)
            try:
                connection.execute("SET TimeZone = 'UTC'")
                # Prefetching reads more of a Parquet file than Athena counts.
                connection.execute("SET disable_parquet_prefetching = true")
                catalog = Catalog(connection, query, self._files)
                if isinstance(statement, exp.Insert):
                    return _insert(catalog, statement)
                return _select(catalog, statement)
            except duckdb.Error as error:
                raise QueryFailedError(str(error)) from error

    def _files(self, query: Query, location: str) -> list[Path]:
        """Fetch a table's objects to files; DuckDB's S3 extension would require a download."""
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        with self._lock:
            return list(self._fetch(query, bucket, prefix))

    def _fetch(self, query: Query, bucket: str, prefix: str) -> Iterator[Path]:
        s3 = query.clients("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                file = self._cache / (query.role or "administrator") / bucket / entry["Key"]
                if self._etags.get(file) != entry["ETag"]:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, entry["Key"], str(file))
                    self._etags[file] = entry["ETag"]
                yield file


def parse(sql: str, parameters: Sequence[str]) -> exp.Query | exp.Insert:
    """Parse a statement and replace its placeholders with the parameters.

    Raises:
        QueryFailedError: the statement is invalid or not supported, a placeholder is outside of
            the WHERE clause, or the number of parameters differs from that of placeholders.
    """
    try:
        _check_placeholders(sqlglot.parse_one(sql, read="athena"))
        statement = sqlglot.parse_one(_bound(sql, parameters), read="athena")
    except sqlglot.errors.SqlglotError as error:
        raise QueryFailedError(f"SYNTAX_ERROR: {_UNDERLINED.sub('', str(error))}") from error
    if not isinstance(statement, exp.Query | exp.Insert):
        raise QueryFailedError("the local cloud supports only queries and INSERT INTO")
    return statement


def _check_placeholders(statement: exp.Expr) -> None:
    # https://docs.aws.amazon.com/athena/latest/ug/querying-with-prepared-statements.html
    placeholders = statement.find_all(exp.Placeholder)
    if not all(each.find_ancestor(exp.Where) for each in placeholders):
        raise QueryFailedError("a question mark can be placed only in the WHERE clause")


def _bound(sql: str, parameters: Sequence[str]) -> str:
    placeholders = [
        token
        for token in sqlglot.tokenize(sql, read="athena")
        if token.token_type is TokenType.PLACEHOLDER
    ]
    if len(placeholders) != len(parameters):
        raise QueryFailedError(
            f"Incorrect number of parameters: expected {len(placeholders)}"
            f" but found {len(parameters)}"
        )
    # Backwards, so that the positions of the earlier placeholders remain valid.
    for placeholder, parameter in zip(reversed(placeholders), reversed(parameters), strict=True):
        value = sqlglot.parse_one(parameter, read="athena")
        if value.find(exp.Column, exp.Query, exp.Command):
            raise QueryFailedError(f"SYNTAX_ERROR: {parameter} is not a constant expression")
        before, after = sql[: placeholder.start], sql[placeholder.end + 1 :]
        sql = f"{before}({value.sql(dialect='athena')}){after}"
    return sql


def _select(catalog: Catalog, statement: exp.Query) -> ResultSet:
    catalog.attach_all(statement)
    _name_columns(statement)
    with catalog.measure() as bytes_read:
        result = catalog.connection.execute(statement.sql(dialect="duckdb"))
        columns = [(each[0], _athena_type(str(each[1]))) for each in result.description]
        rows = [[_format(value) for value in row] for row in result.fetchall()]
    _check_limit(catalog.query, bytes_read())
    return ResultSet(columns, rows, scanned_bytes=bytes_read())


def _name_columns(statement: exp.Query) -> None:
    """Name columns without a name as Athena does."""
    for number, each in enumerate(statement.selects):
        if not isinstance(each, exp.Alias | exp.Column | exp.Star):
            each.replace(exp.alias_(each.copy(), f"_col{number}"))


def _insert(catalog: Catalog, statement: exp.Insert) -> ResultSet:
    """Write the rows as one Parquet object for each partition, with keys as Athena's."""
    target = statement.this
    table = catalog.table(target.this if isinstance(target, exp.Schema) else target)
    columns = table.columns | table.partitions
    named = [each.name for each in target.expressions] if isinstance(target, exp.Schema) else []
    if not table.parquet or len(table.partitions) != 1 or named not in ([], list(columns)):
        raise QueryFailedError(
            "the local cloud supports INSERT only for all columns of a Parquet table with one"
            " partition key"
        )
    (key,) = table.partitions
    catalog.attach_all(statement.expression)
    with catalog.measure() as bytes_read:
        catalog.connection.execute(_rows_to_insert(statement.expression, columns))
    _check_limit(catalog.query, bytes_read())
    counts = catalog.connection.execute(
        f'SELECT "{key}", count(*) FROM inserted GROUP BY 1'  # nosec B608 # noqa: S608 - of the catalog
    ).fetchall()
    bucket, _, prefix = table.location.removeprefix("s3://").partition("/")
    for value, _count in counts:
        catalog.query.clients("s3").put_object(
            Bucket=bucket,
            Key=f"{prefix.rstrip('/')}/{key}={value}/{uuid.uuid4()}",
            Body=_parquet(catalog, table, key, value),
        )
    inserted = sum(count for _, count in counts)
    return ResultSet([], [], scanned_bytes=bytes_read(), inserted=inserted)


def _rows_to_insert(select: exp.Query, columns: dict[str, str]) -> str:
    """Return the SQL that stores the rows, assigned by position and cast to the table's types."""
    names = ", ".join(f'"{name}"' for name in columns)
    cast = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in columns.items())
    return (
        f"CREATE TEMP TABLE inserted AS SELECT {cast}"  # nosec B608 # noqa: S608 - of the catalog
        f" FROM ({select.sql(dialect='duckdb')}) AS selected({names})"
    )


def _parquet(catalog: Catalog, table: Table, key: str, value: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        catalog.connection.execute(
            f'COPY (SELECT * EXCLUDE "{key}" FROM inserted WHERE "{key}" = {literal(value)})'  # nosec B608 # noqa: S608 - of the catalog
            f" TO {literal(str(file))} (FORMAT parquet, COMPRESSION {table.compression})"
        )
        return file.read_bytes()


def _check_limit(query: Query, scanned: int) -> None:
    if query.bytes_limit is not None and scanned > query.bytes_limit:
        raise BytesLimitError(f"Bytes scanned limit was exceeded: {query.bytes_limit} bytes")


def _athena_type(duckdb_type: str) -> str:
    name = duckdb_type.partition("(")[0]
    return _ATHENA_TYPES.get(name, name.lower())


def _format(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "hour"):
        return str(value.isoformat(sep=" ", timespec="milliseconds"))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={v}" for k, v in value.items()) + "}"
    return str(value)
