"""How the agent's objects get from its spool to S3."""

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

# An endpoint that is down is found out within seconds; the spool is the real retry.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
)

# Answers of the 400s that time heals: clocks get set, tokens renewed, crowds go away.
_PASSING = frozenset(
    "RequestTimeout RequestTimeTooSkewed ExpiredToken SlowDown Throttling ThrottlingException"
    " TooManyRequests OperationAborted RequestLimitExceeded".split()
)
_PASSING_STATUS = frozenset((408, 409, 425, 429))
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
    """S3 did not take an object; `permanent` if trying again soon cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the objects; `error` is why the sending stopped, if it did."""

    sent: int
    left: int
    error: DeliveryError | None = None


def deliver(spool: Spool, put: Put, enough: Callable[[], bool] = lambda: False) -> Delivery:
    """Send what is spooled, oldest first, until S3 does not take one or it is `enough`.

    What was sent is taken out of the spool.
    """
    sent, error = 0, None
    for entry in spool.entries():
        if enough():
            break
        body = spool.read(entry)
        if body is None:
            continue
        try:
            put(entry.key, body)
        except DeliveryError as failure:
            error = failure
            break
        spool.remove(entry)
        sent += 1
    return Delivery(sent, len(spool.entries()), error)


class Bucket:
    """Puts objects into S3, on the credentials, region and endpoint of the environment."""

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
            raise _refused(target, error) from error
        except BotoCoreError as error:
            raise DeliveryError(
                f"{target} was not sent: {type(error).__name__}: {error}",
                permanent=isinstance(error, _MISCONFIGURED),
            ) from error
        except ValueError as error:  # how boto3 says that an endpoint or a region is none
            raise DeliveryError(f"{target} was not sent: {error}", permanent=True) from error

    @contextmanager
    def _client(self) -> "Iterator[S3Client]":
        """Made when it is needed, and made anew after an error: credentials may have changed."""
        client = self._s3 or boto3.Session().client("s3", config=_CONFIG)
        self._s3 = None
        yield client
        self._s3 = client


def _refused(target: str, error: ClientError) -> DeliveryError:
    code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    passing = status >= 500 or status in _PASSING_STATUS or code in _PASSING
    hint = _HINTS.get(code, "")
    return DeliveryError(f"S3 refused {target}: {code}: {text}{hint}", permanent=not passing)
