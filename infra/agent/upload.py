"""Send objects from the spool to S3."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from .spool import Spool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Put = Callable[[str, bytes], None]

# Fail within seconds if the endpoint is down: the objects stay in the spool for the next try.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
)

# Client errors (4xx) that go away without a change of the configuration.
_TRANSIENT = frozenset(
    "RequestTimeout RequestTimeTooSkewed ExpiredToken SlowDown Throttling ThrottlingException"
    " TooManyRequests OperationAborted RequestLimitExceeded".split()
)
_TRANSIENT_STATUS = frozenset((408, 409, 425, 429))
_MISCONFIGURED = (
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
_HINTS = {
    "AccessDenied": "; the agent needs s3:PutObject on raw-metrics/*",
    "NoSuchBucket": "; see --bucket",
}


class DeliveryError(Exception):
    """An object was not stored; `permanent` if a retry with the same settings cannot succeed."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Delivery:
    """Objects sent and left in the spool; `error` is the one that stopped the sending."""

    sent: int
    left: int
    error: DeliveryError | None = None


def deliver(spool: Spool, put: Put, stop: Callable[[], bool] = lambda: False) -> Delivery:
    """Send the spooled objects, oldest first, until one fails or `stop` returns True.

    Objects that were sent are removed from the spool.
    """
    sent, error = 0, None
    for spooled in spool.objects():
        if stop():
            break
        body = spool.read(spooled)
        if body is None:
            continue
        try:
            put(spooled.key, body)
        except DeliveryError as failure:
            error = failure
            break
        spool.remove(spooled)
        sent += 1
    return Delivery(sent, len(spool.objects()), error)


class Bucket:
    """Puts objects into S3 with the credentials, region and endpoint of the environment."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._s3: S3Client | None = None

    def put(self, key: str, body: bytes) -> None:
        """Put an object; raises DeliveryError."""
        target = f"s3://{self._name}/{key}"
        try:
            with self._client() as s3:
                s3.put_object(
                    Bucket=self._name, Key=key, Body=body, ContentType="application/x-ndjson"
                )
        except ClientError as error:
            raise _delivery_error(target, error) from error
        except BotoCoreError as error:
            raise DeliveryError(
                f"{target} was not sent: {type(error).__name__}: {error}",
                permanent=isinstance(error, _MISCONFIGURED),
            ) from error
        except ValueError as error:  # boto3 raises it for a malformed endpoint or region
            raise DeliveryError(f"{target} was not sent: {error}", permanent=True) from error

    @contextmanager
    def _client(self) -> "Iterator[S3Client]":
        """The client; a new one after an error, because the credentials may have changed."""
        client = self._s3 or boto3.Session().client("s3", config=_CONFIG)
        self._s3 = None
        yield client
        self._s3 = client


def _delivery_error(target: str, error: ClientError) -> DeliveryError:
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    transient = status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT
    hint = _HINTS.get(code, "")
    return DeliveryError(f"S3 refused {target}: {code}: {text}{hint}", permanent=not transient)
