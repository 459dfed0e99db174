"""The event that invokes the processor, as delivered by EventBridge."""

from .scenario import ACCOUNT, REGION, Json


def object_created(bucket: str, key: str) -> Json:
    return {
        "version": "0",
        "id": "event",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": "2026-11-22T18:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": {"key": key}},
    }
