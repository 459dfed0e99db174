"""Athena: SQL over the bucket, answered by DuckDB after sqlglot translated the dialect.

Tables are what CloudFormation put into the Glue catalog: their columns, location and
partition keys are read from there at each query, so a wrong table definition shows here.
"""

import csv
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from moto.athena.models import AthenaBackend, Execution, QueryResults
from moto.athena.responses import AthenaResponse
from sqlglot import exp

Clients = Callable[[str], Any]

_TYPES = {"string": "VARCHAR", "map<string,string>": "MAP(VARCHAR, VARCHAR)"}

# DuckDB's names for result types -> Athena's.
_ATHENA_TYPES = {"HUGEINT": "bigint", "FLOAT": "float"}


class QueryFailedError(Exception):
    """A query that Athena would fail too; the message becomes its StateChangeReason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query as text (None for NULL), as Athena gives them."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    scanned_bytes: int


class QueryEngine:
    """Answers queries over the tables of the Glue catalog."""

    def __init__(self, clients: Clients, cache: Path) -> None:
        self._clients = clients
        self._cache = cache
        self._lock = threading.Lock()
        self._etags: dict[Path, str] = {}

    def query(
        self, sql: str, *, database: str | None = None, parameters: Sequence[str] = ()
    ) -> Answer:
        """Run one SELECT in Athena's dialect.

        Raises:
            QueryFailedError: it does not parse, names what is not there, or fails.
        """
        statement = _parse(sql, parameters)
        with duckdb.connect(":memory:") as connection:
            scanned = sum(
                self._attach(connection, table.db or database or "default", table.name)
                for table in _tables(statement)
            )
            try:
                if database:
                    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
                    connection.execute(f'SET schema = "{database}"')
                result = connection.execute(statement.sql(dialect="duckdb"))
                columns = [(each[0], _athena_type(str(each[1]))) for each in result.description]
                rows = [[_text(value) for value in row] for row in result.fetchall()]
            except duckdb.Error as error:
                raise QueryFailedError(str(error)) from error
        return Answer(columns, rows, scanned)

    def _attach(self, connection: duckdb.DuckDBPyConnection, database: str, name: str) -> int:
        """Make a catalog table known to DuckDB; the bytes of its objects."""
        glue = self._clients("glue")
        try:
            table = glue.get_table(DatabaseName=database, Name=name)["Table"]
        except glue.exceptions.EntityNotFoundException as error:
            raise QueryFailedError(
                f"TABLE_NOT_FOUND: Table 'awsdatacatalog.{database}.{name}' does not exist"
            ) from error
        columns = {each["Name"]: _type(each) for each in table["StorageDescriptor"]["Columns"]}
        partitions = {each["Name"]: _type(each) for each in table["PartitionKeys"]}
        with self._lock:
            files = list(self._download(table["StorageDescriptor"]["Location"]))
        if files:
            source = (
                f"SELECT * FROM read_json({_literal([str(file) for file in files])},"  # nosec B608 # noqa: S608 - our own names
                " format = 'newline_delimited', hive_partitioning = true,"
                f" hive_types = {_literal(partitions)}, columns = {_literal(columns)})"
            )
        else:
            nothing = ", ".join(
                f'NULL::{kind} AS "{column}"' for column, kind in (columns | partitions).items()
            )
            source = f"SELECT {nothing} WHERE false"
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
        connection.execute(f'CREATE VIEW "{database}"."{name}" AS {source}')
        return sum(file.stat().st_size for file in files)

    def _download(self, location: str) -> Iterator[Path]:
        """The table's objects as files; DuckDB's own S3 reader would have to be fetched."""
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        s3 = self._clients("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                file = self._cache / bucket / entry["Key"]
                if self._etags.get(file) != entry["ETag"]:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, entry["Key"], str(file))
                    self._etags[file] = entry["ETag"]
                yield file


def install(clients: Clients, cache: Path) -> Callable[[], None]:
    """Let moto's Athena run its queries here, in the background, as Athena does.

    Returns what stops it; the query under way is waited for.
    """
    engine = QueryEngine(clients, cache)
    pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="athena")
    moto_get_query_execution = AthenaResponse.get_query_execution

    def start_query_execution(  # noqa: PLR0917 - moto's signature
        backend: AthenaBackend,
        query: str,
        context: Any,
        config: Any,
        workgroup: str,
        execution_parameters: list[str] | None,
    ) -> str:
        execution = _QueryExecution(
            query=query,
            context=context,
            config=config,
            workgroup=backend.work_groups.get(workgroup),
            execution_parameters=execution_parameters,
        )
        backend.executions[execution.id] = execution
        pool.submit(_run, engine, clients, backend, execution)
        return execution.id

    def get_query_execution(response: AthenaResponse) -> str:
        answer = json.loads(moto_get_query_execution(response))
        detail = answer["QueryExecution"]
        execution = response.athena_backend.executions[detail["QueryExecutionId"]]
        if isinstance(execution, _QueryExecution):
            if execution.reason:
                detail["Status"]["StateChangeReason"] = execution.reason
            milliseconds = int(1000 * (execution.end_time - execution.start_time))
            detail["Statistics"] |= {
                "DataScannedInBytes": execution.scanned_bytes,
                "EngineExecutionTimeInMillis": milliseconds,
                "TotalExecutionTimeInMillis": milliseconds,
            }
        return json.dumps(answer)

    AthenaBackend.start_query_execution = start_query_execution  # type: ignore[method-assign, assignment]  # in the place of moto's
    AthenaResponse.get_query_execution = get_query_execution  # type: ignore[method-assign, assignment]  # in the place of moto's
    return lambda: pool.shutdown(cancel_futures=True)


class _QueryExecution(Execution):
    """An execution whose state is the query's own, not one that moto lets pass by itself."""

    status: Any = "QUEUED"
    reason = ""
    scanned_bytes = 0


def _run(
    engine: QueryEngine, clients: Clients, backend: AthenaBackend, execution: _QueryExecution
) -> None:
    execution.status = "RUNNING"
    try:
        context: Any = execution.context or {}
        database = context.get("Database")
        answer = engine.query(
            execution.query, database=database, parameters=execution.execution_parameters or ()
        )
        execution.scanned_bytes = answer.scanned_bytes
        backend.query_results[execution.id] = _results(answer)
        _store(clients, execution, answer)
        state = "SUCCEEDED"
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller polls until told
        execution.reason, state = str(error), "FAILED"
    execution.end_time = time.time()
    execution.status = state


def _store(clients: Clients, execution: _QueryExecution, answer: Answer) -> None:
    """The answer as CSV at the work group's result location."""
    if execution.workgroup is None:
        return
    result = execution.workgroup.configuration.get("ResultConfiguration", {})
    if "OutputLocation" not in result:
        return
    location = f"{result['OutputLocation'].rstrip('/')}/{execution.id}.csv"
    execution.config = {**(execution.config or {}), "OutputLocation": location}
    bucket, _, key = location.removeprefix("s3://").partition("/")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow([name for name, _ in answer.columns])
    writer.writerows(answer.rows)
    clients("s3").put_object(Bucket=bucket, Key=key, Body=text.getvalue().encode())


def _results(answer: Answer) -> QueryResults:
    rows = [{"Data": [{"VarCharValue": name} for name, _ in answer.columns]}]
    rows += [
        {"Data": [{} if value is None else {"VarCharValue": value} for value in row]}
        for row in answer.rows
    ]
    info = [{"Name": name, "Label": name, "Type": kind} for name, kind in answer.columns]
    return QueryResults(rows=rows, column_info=info)


def _parse(sql: str, parameters: Sequence[str]) -> exp.Query:
    try:
        statement = sqlglot.parse_one(sql, read="athena")
        values = iter([sqlglot.parse_one(each, read="athena") for each in parameters])
        bound = statement.transform(
            lambda node: next(values) if isinstance(node, exp.Placeholder) else node
        )
    except sqlglot.errors.SqlglotError as error:
        raise QueryFailedError(f"SYNTAX_ERROR: {error}") from error
    except (StopIteration, RuntimeError) as error:
        raise QueryFailedError("there are fewer parameters than question marks") from error
    if not isinstance(bound, exp.Query):
        raise QueryFailedError("the local cloud answers queries, not other statements")
    return bound


def _tables(statement: exp.Query) -> list[exp.Table]:
    """The catalog tables a query names, each once, without its own WITH names."""
    own = {each.alias_or_name for each in statement.find_all(exp.CTE)}
    named = {(each.db, each.name): each for each in statement.find_all(exp.Table)}
    return [each for (db, name), each in named.items() if name and (db or name not in own)]


def _type(column: dict[str, str]) -> str:
    return _TYPES.get(column["Type"], column["Type"].upper())


def _athena_type(duckdb_type: str) -> str:
    plain = re.sub(r"\(.*", "", duckdb_type)
    return _ATHENA_TYPES.get(plain, plain.lower())


def _literal(value: Any) -> str:
    """A Python value as a literal of DuckDB's SQL."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(each) for each in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


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
