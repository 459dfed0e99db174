"""A deployed stage: resource names, clients and settings; and the days of a command."""

import argparse
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from chalicelib.model.object_keys import RAW_PREFIX
from chalicelib.model.settings import stage_suffix

from ..command_line import CommandError, UsageError

_DATED = re.compile(RAW_PREFIX + r"(\d{4})/(\d{2})/(\d{2})/")

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=16)
_SETTINGS = Path(__file__).resolve().parents[2] / ".chalice" / "config.json"


@dataclass(frozen=True, slots=True)
class Days:
    """UTC days from `first` to `last`, both included."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        return (
            self.first + timedelta(days=number)
            for number in range((self.last - self.first).days + 1)
        )

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Stage:
    """A deployed stage; its properties call AWS when they are first used."""

    name: str
    bucket_name: str = ""
    table_name: str = ""
    endpoint: str = ""
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def suffix(self) -> str:
        return stage_suffix(self.name)

    def client(self, service: str) -> Any:
        """A cached client with the credentials and region of the environment."""
        with self._lock:  # boto3 sessions are not thread-safe
            if service not in self._clients:
                factory: Any = boto3.client
                self._clients[service] = factory(
                    service, endpoint_url=self.endpoint or None, config=_CONFIG
                )
            return self._clients[service]

    @property
    def bucket(self) -> str:
        return self.bucket_name or self._exports["BucketName"]

    @property
    def table(self) -> str:
        return self.table_name or self._exports["TableName"]

    @property
    def region(self) -> str:
        return str(self.client("s3").meta.region_name)

    @cached_property
    def account_id(self) -> str:
        return str(self.client("sts").get_caller_identity()["Account"])

    @cached_property
    def queue_url(self) -> str:
        """URL of the dead-letter queue."""
        name = f"InfraMonitoring-DeadLetters{self.suffix}"
        return str(self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])

    @property
    def pipeline_arn(self) -> str:
        return self._state_machine_arn("Pipeline-Orch")

    @property
    def replay_arn(self) -> str:
        return self._state_machine_arn("Replay")

    @property
    def compaction_arn(self) -> str:
        return self._state_machine_arn("Compaction")

    @property
    def state_machine_arns(self) -> tuple[str, ...]:
        """ARNs of the three state machines."""
        return self.pipeline_arn, self.replay_arn, self.compaction_arn

    @property
    def work_group(self) -> str:
        """The Athena work group."""
        return f"infra-monitoring{self.suffix}"

    @property
    def database(self) -> str:
        """The Glue database; it has no hyphens, because SQL would require quotes."""
        return f"infra_monitoring{self.suffix}".replace("-", "_")

    @property
    def function_names(self) -> tuple[str, ...]:
        """The functions whose failed events are in the dead-letter queue."""
        names = ("data-collector", "log-processor", "notifier")
        return tuple(f"{name}{self.suffix}" for name in names)

    @cached_property
    def retention(self) -> timedelta:
        """Time after which DynamoDB deletes an item."""
        return timedelta(days=int(self._settings["RETENTION_DAYS"]))

    @cached_property
    def max_ahead(self) -> timedelta:
        """Limit by which a record's times may be later than the storage of its object."""
        return timedelta(seconds=int(self._settings["MAX_AHEAD_SECONDS"]))

    @cached_property
    def _settings(self) -> dict[str, str]:
        """The stage's settings in `.chalice/config.json`."""
        config = json.loads(_SETTINGS.read_text())
        overrides = config["stages"].get(self.name, {}).get("environment_variables", {})
        settings: dict[str, str] = config["environment_variables"] | overrides
        return settings

    def _state_machine_arn(self, name: str) -> str:
        partition = self.client("sts").meta.partition
        return (
            f"arn:{partition}:states:{self.region}:{self.account_id}"
            f":stateMachine:InfraMonitoring-{name}{self.suffix}"
        )

    @cached_property
    def _exports(self) -> dict[str, str]:
        """The storage stack's exports BucketName and TableName.

        Raises:
            CommandError: an export is missing.
        """
        wanted = {
            f"InfraMonitoring-{name}{self.suffix}": name for name in ("BucketName", "TableName")
        }
        pages = self.client("cloudformation").get_paginator("list_exports").paginate()
        found = {
            wanted[each["Name"]]: str(each["Value"])
            for page in pages
            for each in page["Exports"]
            if each["Name"] in wanted
        }
        if len(found) < len(wanted):
            raise CommandError(
                f"no exports {', '.join(wanted)} in {self.region}: is infra/storage.yaml of stage"
                f" {self.name} deployed there? Otherwise give --bucket and --table"
            )
        return found


def day_of(key: str) -> date | None:
    """The day in a raw object's key, or None."""
    match = _DATED.match(key)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:  # month 13, for example
        return None


def stage_of(options: argparse.Namespace) -> Stage:
    """The stage selected by the options."""
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    default = "local" if endpoint else "prod"
    bucket, table = (getattr(options, name, None) or "" for name in ("bucket", "table"))
    return Stage(options.stage or default, bucket, table, endpoint)


def days_of(options: argparse.Namespace) -> Days:
    """The days selected by the options; `--to` defaults to today.

    Raises:
        UsageError: `--to` is before `--from`.
    """
    last = options.until or datetime.now(UTC).date()
    if last < options.since:
        raise UsageError(f"--to {last} is before --from {options.since}")
    return Days(options.since, last)
