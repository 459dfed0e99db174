"""The Chalice app: what starts each function. Composition root; the work is in `chalicelib`."""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from chalice.app import Chalice, CloudWatchEvent, Rate

from chalicelib import __version__
from chalicelib.api.routes import create_blueprint
from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.aws.lambda_invoke import invoke_later
from chalicelib.aws.notifications import Notices
from chalicelib.aws.store import MetricStore, create_store
from chalicelib.collect.collector import respond
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.protocol import Source
from chalicelib.model.object_keys import RAW_PREFIX
from chalicelib.model.settings import ApiSettings, NotifierSettings, Settings
from chalicelib.notify.notifier import notify
from chalicelib.process.processor import process_event
from chalicelib.telemetry.instrumentation import emit, logger, observed
from chalicelib.telemetry.metrics import counts

if TYPE_CHECKING:
    from chalicelib.api.service import Service

app = Chalice(app_name="infra-monitoring")

# Read while the app is packaged, when Chalice has set the stage's variables.
RAW_OBJECTS = {
    "source": ["aws.s3"],
    "detail-type": ["Object Created"],
    "detail": {
        "bucket": {"name": [os.environ.get("BUCKET_NAME", "infra-monitoring-pipeline-data")]},
        "object": {"key": [{"prefix": RAW_PREFIX}]},
    },
}

# Alarms of every stage begin so; the function knows its own.
ALARM_CHANGES = {
    "source": ["aws.cloudwatch"],
    "detail-type": ["CloudWatch Alarm State Change"],
    "detail": {
        "alarmName": [{"prefix": "InfraMonitoring-"}],
        "state": {"value": ["ALARM", "OK"]},
    },
}


@cache
def get_settings() -> Settings:
    return Settings.from_environ(os.environ)


@cache
def get_store() -> MetricStore:
    return create_store(bucket=get_settings().bucket, table=get_settings().table)


@cache
def get_sources() -> list[Source]:
    return create_sources(get_settings(), fleet_opener(get_settings()))


@cache
def get_notifier_settings() -> NotifierSettings:
    return NotifierSettings.from_environ(os.environ)


@cache
def get_notices() -> Notices:
    return Notices(get_settings().table)


@cache
def get_service() -> "Service":
    # Only the API's cold starts pay for it.
    from chalicelib.aws.api_service import create_service  # noqa: PLC0415

    return create_service(get_settings(), ApiSettings.from_environ(os.environ))


def of_invocation(context: Any) -> dict[str, Any]:
    """What Lambda's context gives the processor: the seconds left, and a way to its next one."""
    return {
        "time_left": lambda: context.get_remaining_time_in_millis() / 1000,
        "invoke": partial(invoke_later, context.invoked_function_arn),
    }


def service_of(context: Any) -> dict[str, str]:
    """The dimension of what a function tells of itself."""
    return {"service": context.function_name}


def observe(event: CloudWatchEvent, get_response: Callable[[CloudWatchEvent], Any]) -> Any:
    """What is around every function that an event starts."""
    with observed(event.to_dict(), event.context):
        return get_response(event)


for kind in ("scheduled", "cloudwatch"):
    app.register_middleware(observe, kind)


@app.schedule(Rate(3, unit=Rate.HOURS), name="data-collector")
def data_collector(event: CloudWatchEvent) -> dict[str, Any]:
    """Collect the metric type that the event names, or all of them; or merge chunks' results."""
    result = respond(
        event.to_dict(),
        settings=get_settings(),
        store=get_store(),
        sources=get_sources(),
        emit=emit,
    )
    logger.info("collected", **result)
    return result


@app.on_cw_event(RAW_OBJECTS, name="log-processor")
def log_processor(event: CloudWatchEvent) -> dict[str, Any]:
    """Process the raw object that S3 says was created, or go on with it."""
    summary = process_event(
        event.to_dict(),
        settings=get_settings(),
        store=get_store(),
        emit=emit,
        **of_invocation(event.context),
    )
    emit(counts(summary.counts(), service_of(event.context)))
    logger.info("processed", **summary.fields())
    return summary.fields()


@app.on_cw_event(ALARM_CHANGES, name="notifier")
def notifier(event: CloudWatchEvent) -> dict[str, Any]:
    """Tell people of an alarm that began or ended, or of a run of the pipeline."""
    told = notify(
        event.to_dict(),
        settings=get_settings(),
        own=get_notifier_settings(),
        outside=get_notices(),
    )
    logger.info("notified", **told)
    return told


@app.route("/health")
def health() -> dict[str, str]:
    """Whether this function starts and has its settings; asks nothing of AWS."""
    get_settings()
    return {"status": "ok", "version": __version__}


app.register_blueprint(create_blueprint(get_service))
