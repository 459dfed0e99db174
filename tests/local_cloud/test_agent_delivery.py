"""Records pushed by the agent to a local cloud are stored exactly once and enriched."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from chalicelib.model import records
from chalicelib.model.records import Record
from tests.conftest import BUCKET, RunningCloud
from tests.contract.agent.test_agent import closed_port, push, spooled

Eventually = Callable[..., Any]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def items_of(cloud: RunningCloud, host: str) -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName="InfraMetrics")
    found = [item for page in pages for item in page["Items"]]
    return [item for item in found if item["resource_id"]["S"] == host]


def raw_objects(cloud: RunningCloud, host: str) -> dict[str, bytes]:
    s3 = cloud.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="raw-metrics/").get("Contents", [])
    keys = [entry["Key"] for entry in listed if f"/agent-{host}-" in entry["Key"]]
    return {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def host(cloud: RunningCloud, eventually: Eventually) -> Iterator[str]:
    """A unique host name; its objects and items are deleted after the test."""
    name = f"pushing-{uuid.uuid4().hex[:8]}"
    yield name
    eventually(lambda: idle(cloud))
    s3, dynamodb = cloud.client("s3"), cloud.client("dynamodb")
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        if name in entry["Key"]:
            s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for item in items_of(cloud, name) + items_of(cloud, f"{name}-other"):
        key = {attribute: item[attribute] for attribute in ("metric_id", "timestamp")}
        dynamodb.delete_item(TableName="InfraMetrics", Key=key)


def idle(cloud: RunningCloud) -> bool:
    return bool(requests.get(f"{cloud.endpoint}/_local/idle", timeout=300).json())


def test_records_spooled_during_an_outage_are_stored_once_and_enriched(
    cloud: RunningCloud, host: str, spool: Path, eventually: Eventually
) -> None:
    options = ("--host", host, "--interval", "1", "--align", "1")
    with closed_port() as endpoint:
        for _ in range(2):
            assert push(endpoint, spool, *options)[0] == 1
            time.sleep(1.1)  # so that each has a different window
    assert push(cloud.endpoint, spool, *options)[0] == 0

    objects = raw_objects(cloud, host)
    sent = [records.decode(line) for body in objects.values() for line in body.splitlines()]
    assert (len(objects), len(sent), spooled(spool)) == (3, 12, [])

    def enriched() -> list[dict[str, Any]]:
        return [item for item in items_of(cloud, host) if "processed_at" in item]

    # 12 keys, or fewer if the clock was set back, because then some records share a window.
    keys = {_record_key(record) for record in sent}
    eventually(lambda: {_item_key(item) for item in enriched()} == keys)
    eventually(lambda: idle(cloud))
    assert sorted(map(_item_key, items_of(cloud, host))) == sorted(keys)


def _record_key(record: Record) -> tuple[str, str]:
    identified = record.identified(account_id="123456789012", region="eu-west-1")
    return str(identified.metric_id), f"{record.timestamp:%Y-%m-%dT%H:%M:%SZ}"


def _item_key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metric_id"]["S"], item["timestamp"]["S"]


def test_sending_an_object_twice_stores_its_records_once(
    cloud: RunningCloud, host: str, spool: Path, tmp_path: Path, eventually: Eventually
) -> None:
    with closed_port() as endpoint:
        push(endpoint, spool, "--host", host)
    shutil.copytree(spool, tmp_path / "copy")
    for folder in (spool, tmp_path / "copy"):
        assert push(cloud.endpoint, folder, "--host", f"{host}-other")[0] == 0
    eventually(lambda: len(items_of(cloud, host)) == 4)
    eventually(lambda: all("processed_at" in item for item in items_of(cloud, host)))
    eventually(lambda: idle(cloud))
    counts = (
        len([key for key in raw_objects(cloud, host) if "-other-" not in key]),
        len(items_of(cloud, host)),
    )
    assert counts == (1, 4)
