"""The API's use cases with what they need; made once for each environment of the function."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ..model.settings import ApiSettings, Settings
from . import (
    alarms as alarm_states,
)
from . import (
    host_history as history,
)
from . import (
    hosts as fleet,
)
from . import (
    queries as answers,
)
from . import (
    records,
    runs,
)
from .parameters import Given

Answer = dict[str, Any]


class Table(records.Records, fleet.Fleet, history.History, Protocol):
    """The table in all its ways to be read."""


@dataclass(frozen=True)
class Service:
    """What each route answers. Every method raises RequestError or StorageError."""

    settings: Settings
    own: ApiSettings
    table: Table
    pipeline: runs.Pipeline
    alarm_reader: alarm_states.Alarms
    athena: answers.Queries
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def metrics(self, metric_type: str, given: Given) -> Answer:
        return records.answer(metric_type, given, records=self.table, now=self.now())

    def hosts(self, given: Given, *, fresh: bool) -> Answer:
        return fleet.answer(
            given, settings=self.settings, fleet=self.table, now=self.now(), fresh=fresh
        )

    def host(self, resource_id: str, given: Given) -> Answer:
        return history.answer(
            resource_id, given, settings=self.settings, history=self.table, now=self.now()
        )

    def runs(self, given: Given) -> Answer:
        return runs.answer(given, pipeline=self.pipeline)

    def start_run(self, given: Given) -> Answer:
        return dict(runs.start(given, pipeline=self.pipeline, now=self.now()))

    def alarms(self, given: Given) -> Answer:
        return alarm_states.answer(given, own=self.own, alarms=self.alarm_reader)

    def queries(self, given: Given) -> Answer:
        return answers.catalog(given, queries=self.athena)

    def start_query(self, given: Given, body: bytes) -> Answer:
        return dict(answers.start(given, body, queries=self.athena))

    def query(self, identity: str, given: Given) -> Answer:
        return answers.answer(identity, given, queries=self.athena)

    @staticmethod
    def encode(answer: Answer) -> str:
        return msgspec.json.encode(answer).decode()
