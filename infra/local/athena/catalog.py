"""The Glue catalog in DuckDB: the tables and views that a statement names.

The definitions come from Glue at each query, as CloudFormation created them: columns, location,
partition keys and the SQL of views. Glue and S3 are called with the caller's clients, as Athena
does.
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
    """Athena would fail this query too; the message becomes the StateChangeReason."""


@dataclass(frozen=True, slots=True)
class Query:
    """One statement, its context and its limit.

    `clients` have the permissions of `role`, the name of the caller's role; '' stands for the
    administrator. `bytes_limit` is the work group's limit of bytes scanned.
    """

    sql: str
    clients: Callable[[str], Any]
    role: str = ""
    database: str = "default"
    parameters: Sequence[str] = ()
    bytes_limit: int | None = None


# (query, S3 location) -> the objects below the location, as local files
Files = Callable[[Query, str], list[Path]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the catalog, with DuckDB's types; `view` is the SQL of a view, else ''."""

    location: str
    columns: dict[str, str]
    partitions: dict[str, str]
    parquet: bool
    compression: str
    view: str

    @classmethod
    def from_glue(cls, table: dict[str, Any]) -> "Table":
        """Convert a table of Glue's GetTable."""
        storage, parameters = table["StorageDescriptor"], table.get("Parameters", {})
        view = _VIEW.fullmatch(table.get("ViewOriginalText", ""))
        return cls(
            location=storage.get("Location", ""),
            columns={each["Name"]: _type(each) for each in storage["Columns"]},
            partitions={each["Name"]: _type(each) for each in table.get("PartitionKeys", [])},
            parquet="Parquet" in storage.get("InputFormat", ""),
            compression=parameters.get("parquet.compression", "GZIP"),
            view=json.loads(base64.b64decode(view[1]))["originalSql"] if view else "",
        )


class Catalog:
    """The tables and views of a query, as views in a DuckDB connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: Query, files: Files) -> None:
        self.connection = connection
        self.query = query
        self._files = files
        self._attached: set[tuple[str, str]] = set()

    def table(self, named: exp.Table) -> Table:
        """Return a table or view from Glue.

        Raises:
            QueryFailedError: it does not exist.
        """
        database = named.db or self.query.database
        glue = self.query.clients("glue")
        try:
            return Table.from_glue(glue.get_table(DatabaseName=database, Name=named.name)["Table"])
        except glue.exceptions.EntityNotFoundException as error:
            raise QueryFailedError(
                f"TABLE_NOT_FOUND: Table 'awsdatacatalog.{database}.{named.name}' does not exist"
            ) from error

    def attach_all(self, statement: exp.Expr, default_database: str = "") -> None:
        """Create a view for each table in a statement, and qualify each name with its database.

        Names without a database are in `default_database`, or in that of the query.
        """
        for named in tables(statement):
            database = named.db or default_database or self.query.database
            named.set("db", exp.to_identifier(database))
            if (database, named.name) not in self._attached:
                self._attached.add((database, named.name))
                self._attach(database, named)

    def _attach(self, database: str, named: exp.Table) -> None:
        table = self.table(named)
        if table.view:
            statement = sqlglot.parse_one(table.view, read="athena")
            self.attach_all(statement, database)
            source = statement.sql(dialect="duckdb")
        else:
            source = _source(table, self._files(self.query, table.location))
        self.connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
        self.connection.execute(f'CREATE VIEW "{database}"."{named.name}" AS {source}')

    @contextmanager
    def measure(self) -> Iterator[Callable[[], int]]:
        """Measure the bytes read from files; call the yielded function after the block."""
        read: list[int] = []
        self.connection.execute("PRAGMA enable_profiling = 'no_output'")
        yield lambda: read[0]
        profile = json.loads(self.connection.get_profiling_information(format="json"))
        self.connection.execute("PRAGMA disable_profiling")
        read.append(profile["io"]["total_bytes_read"])


def tables(statement: exp.Expr) -> Iterator[exp.Table]:
    """Yield the references to tables of the catalog, without those to WITH names."""
    with_names = {each.alias_or_name for each in statement.find_all(exp.CTE)}
    for each in list(statement.find_all(exp.Table)):
        if each.name and (each.db or each.name not in with_names):
            yield each


def literal(value: Any) -> str:
    """Format a Python value as a literal of DuckDB's SQL."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(literal(each) for each in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def _source(table: Table, files: Sequence[Path]) -> str:
    """Return the SQL for a table's rows; DuckDB reads only the data that a query needs."""
    columns = table.columns | table.partitions
    if not files:
        nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {nulls} WHERE false"
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
