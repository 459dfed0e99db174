"""The API's operations with their adapters; created once for each execution environment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ..model.settings import ApiSettings, Settings
from . import alarms, host_history, hosts, queries, records, runs
from .parameters import QueryParams

Json = dict[str, Any]


class Table(records.Records, hosts.FleetRecords, host_history.HostRecords, Protocol):
    """Every read of the table."""


@dataclass(frozen=True)
class Service:
    """The response of each route. Every method raises RequestError or StorageError."""

    settings: Settings
    api_settings: ApiSettings
    table: Table
    pipeline: runs.Pipeline
    alarm_reader: alarms.AlarmReader
    athena: queries.Queries
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def metrics(self, metric_type: str, query_params: QueryParams) -> Json:
        return records.list_records(metric_type, query_params, records=self.table, now=self.now())

    def hosts(self, query_params: QueryParams, *, fresh: bool) -> Json:
        return hosts.list_hosts(
            query_params, settings=self.settings, records=self.table, now=self.now(), fresh=fresh
        )

    def host(self, resource_id: str, query_params: QueryParams) -> Json:
        return host_history.get_host(
            resource_id,
            query_params,
            settings=self.settings,
            records=self.table,
            now=self.now(),
        )

    def runs(self, query_params: QueryParams) -> Json:
        return runs.list_runs(query_params, pipeline=self.pipeline)

    def start_run(self, query_params: QueryParams) -> Json:
        return dict(runs.start_run(query_params, pipeline=self.pipeline, now=self.now()))

    def alarms(self, query_params: QueryParams) -> Json:
        return alarms.list_alarms(
            query_params, api_settings=self.api_settings, alarms=self.alarm_reader
        )

    def queries(self, query_params: QueryParams) -> Json:
        return queries.list_queries(query_params, queries=self.athena)

    def start_query(self, query_params: QueryParams, body: bytes) -> Json:
        return dict(queries.start_query(query_params, body, queries=self.athena))

    def query(self, identity: str, query_params: QueryParams) -> Json:
        return queries.get_query(identity, query_params, queries=self.athena)

    @staticmethod
    def encode(response: Json) -> str:
        return msgspec.json.encode(response).decode()
