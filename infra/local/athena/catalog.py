"""The Glue catalog for DuckDB: the tables and views that a statement names, as views of it.

They are what CloudFormation put there: columns, location, partition keys and the SQL of views are
read at each query, so a wrong definition shows here. Glue and S3 are asked with the clients of
whoever asks, as Athena does.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

_TYPES = {"string": "VARCHAR", "map<string,string>": "MAP(VARCHAR, VARCHAR)"}
_VIEW = re.compile(r"/\* Presto View: (\S+) \*/")


class QueryFailedError(Exception):
    """A query that Athena would fail too; the message becomes its StateChangeReason."""


@dataclass(frozen=True, slots=True)
class Question:
    """One statement and what it is asked with: `limit` is how many bytes it may read.

    `owner` is who asks, and `clients` are theirs.
    """

    sql: str
    clients: Callable[[str], Any]
    owner: str = ""
    database: str = "default"
    parameters: Sequence[str] = ()
    limit: int | None = None


Files = Callable[[Question, str], list[Path]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the catalog; its types are DuckDB's. `view` is the SQL of a view."""

    location: str
    columns: dict[str, str]
    partitions: dict[str, str]
    parquet: bool
    compression: str
    view: str

    @classmethod
    def of(cls, described: dict[str, Any]) -> "Table":
        storage, parameters = described["StorageDescriptor"], described.get("Parameters", {})
        found = _VIEW.fullmatch(described.get("ViewOriginalText", ""))
        return cls(
            location=storage.get("Location", ""),
            columns={each["Name"]: _type(each) for each in storage["Columns"]},
            partitions={each["Name"]: _type(each) for each in described.get("PartitionKeys", [])},
            parquet="Parquet" in storage.get("InputFormat", ""),
            compression=parameters.get("parquet.compression", "GZIP"),
            view=json.loads(base64.b64decode(found[1]))["originalSql"] if found else "",
        )


class Catalog:
    """What a question names, in a DuckDB of its own."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, question: Question, files: Files
    ) -> None:
        self.connection = connection
        self.question = question
        self._files = files
        self._attached: set[tuple[str, str]] = set()

    def table(self, named: exp.Table) -> Table:
        """What Glue has of a table.

        Raises:
            QueryFailedError: there is none.
        """
        database = named.db or self.question.database
        glue = self.question.clients("glue")
        try:
            return Table.of(glue.get_table(DatabaseName=database, Name=named.name)["Table"])
        except glue.exceptions.EntityNotFoundException as error:
            raise QueryFailedError(
                f"TABLE_NOT_FOUND: Table 'awsdatacatalog.{database}.{named.name}' does not exist"
            ) from error

    def attach_all(self, query: exp.Expr, database: str = "") -> None:
        """Make every table that a query names known, and name each with its database.

        Without one it is of `database`, as in a view's SQL, or of the question's.
        """
        own = database or self.question.database
        for named in tables(query):
            database = named.db or own
            named.set("db", exp.to_identifier(database))
            if (database, named.name) not in self._attached:
                self._attached.add((database, named.name))
                self._attach(database, named)

    def _attach(self, database: str, named: exp.Table) -> None:
        table = self.table(named)
        if table.view:
            query = sqlglot.parse_one(table.view, read="athena")
            self.attach_all(query, database)
            source = query.sql(dialect="duckdb")
        else:
            source = _source(table, self._files(self.question, table.location))
        self.connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
        self.connection.execute(f'CREATE VIEW "{database}"."{named.name}" AS {source}')

    @contextmanager
    def measured(self) -> Iterator[Callable[[], int]]:
        """How many bytes were read of files meanwhile; known at the end."""
        read: list[int] = []
        self.connection.execute("PRAGMA enable_profiling = 'no_output'")
        yield lambda: read[0]
        profile = json.loads(self.connection.get_profiling_information(format="json"))
        self.connection.execute("PRAGMA disable_profiling")
        read.append(profile["io"]["total_bytes_read"])


def tables(statement: exp.Expr) -> Iterator[exp.Table]:
    """The places where a query names tables of the catalog, not its own WITH names."""
    own = {each.alias_or_name for each in statement.find_all(exp.CTE)}
    for each in list(statement.find_all(exp.Table)):
        if each.name and (each.db or each.name not in own):
            yield each


def literal(value: Any) -> str:
    """A Python value as a literal of DuckDB's SQL."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(literal(each) for each in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def _source(table: Table, files: Sequence[Path]) -> str:
    """SQL for a table's rows; DuckDB reads of them what a query needs."""
    columns = table.columns | table.partitions
    if not files:
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {nothing} WHERE false"
    paths = literal([str(file) for file in files])
    layout = f"hive_partitioning = true, hive_types = {literal(table.partitions)}"
    if table.parquet:
        names = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {names} FROM read_parquet({paths}, {layout})"  # nosec B608 # noqa: S608 - our own names
    return (
        f"SELECT * FROM read_json({paths}, {layout},"  # nosec B608 # noqa: S608 - our own names
        f" format = 'newline_delimited', columns = {literal(columns)})"
    )


def _type(column: dict[str, str]) -> str:
    return _TYPES.get(column["Type"], column["Type"].upper())
