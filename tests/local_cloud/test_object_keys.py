"""Raw objects with unusual keys reach the processor of a local cloud."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.model import records
from tests.conftest import BUCKET, RunningCloud, make_record
from tests.contract.process.test_inputs import KEYS

Eventually = Callable[..., Any]


@pytest.mark.parametrize("name", KEYS[:6], ids=ascii)
def test_an_object_of_any_key_reaches_the_function(
    name: str, cloud: RunningCloud, eventually: Eventually
) -> None:
    made = make_record(resource_id=f"key-{uuid.uuid4().hex}", timestamp=datetime.now(UTC))
    key = f"raw-metrics/{uuid.uuid4().hex}/{name}"
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=records.encode(made))
    wanted = {
        "metric_id": {"S": str(made.metric_id)},
        "timestamp": {"S": f"{made.timestamp:%Y-%m-%dT%H:%M:%SZ}"},
    }
    table = cloud.client("dynamodb")
    item = eventually(lambda: table.get_item(TableName="InfraMetrics", Key=wanted).get("Item"))
    assert item["source_object"]["S"] == f"s3://{BUCKET}/{key}"
