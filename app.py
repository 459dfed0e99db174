"""The Chalice app: the trigger of each function. The composition root; logic is in `chalicelib`."""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from chalice.app import Chalice, CloudWatchEvent, Rate

from chalicelib import __version__
from chalicelib.api.routes import create_blueprint
from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.aws.lambda_invoke import invoke_later
from chalicelib.aws.notifier_ports import AwsNotifierPorts
from chalicelib.aws.store import MetricStore, create_store
from chalicelib.collect.collector import respond
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.protocol import Source
from chalicelib.model.object_keys import RAW_PREFIX
from chalicelib.model.settings import ApiSettings, NotifierSettings, Settings
from chalicelib.notify.notifier import notify
from chalicelib.process.processor import process_event
from chalicelib.telemetry.instrumentation import emit, instrumented, logger
from chalicelib.telemetry.metrics import count_metrics

if TYPE_CHECKING:
    from chalicelib.api.service import Service

app = Chalice(app_name="infra-monitoring")

# Evaluated while the app is packaged; Chalice then sets the stage's environment variables.
RAW_OBJECTS = {
    "source": ["aws.s3"],
    "detail-type": ["Object Created"],
    "detail": {
        "bucket": {"name": [os.environ.get("BUCKET_NAME", "infra-monitoring-pipeline-data")]},
        "object": {"key": [{"prefix": RAW_PREFIX}]},
    },
}

# The alarms of every stage match; the function ignores those of other stages.
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
def get_notifier_ports() -> AwsNotifierPorts:
    return AwsNotifierPorts(get_settings().table)


@cache
def get_service() -> "Service":
    # Imported here, so that only the API's cold starts pay for it.
    from chalicelib.aws.api_service import create_service  # noqa: PLC0415

    return create_service(get_settings(), ApiSettings.from_environ(os.environ))


def invocation_ports(context: Any) -> dict[str, Any]:
    """The processor's access to its invocation: the seconds left, and how to invoke itself."""
    return {
        "time_left": lambda: context.get_remaining_time_in_millis() / 1000,
        "invoke": partial(invoke_later, context.invoked_function_arn),
    }


def service_of(context: Any) -> dict[str, str]:
    """The dimension of a function's own metrics."""
    return {"service": context.function_name}


def observe(event: CloudWatchEvent, get_response: Callable[[CloudWatchEvent], Any]) -> Any:
    """Instrument every function that an event starts."""
    with instrumented(event.to_dict(), event.context):
        return get_response(event)


for kind in ("scheduled", "cloudwatch"):
    app.register_middleware(observe, kind)


@app.schedule(Rate(3, unit=Rate.HOURS), name="data-collector")
def data_collector(event: CloudWatchEvent) -> dict[str, Any]:
    """Collect the metric type in the event, or all of them, or merge the results of chunks."""
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
    """Process the raw object in S3's event, or continue with it."""
    summary = process_event(
        event.to_dict(),
        settings=get_settings(),
        store=get_store(),
        emit=emit,
        **invocation_ports(event.context),
    )
    emit(count_metrics(summary.counts(), service_of(event.context)))
    logger.info("processed", **summary.fields())
    return summary.fields()


@app.on_cw_event(ALARM_CHANGES, name="notifier")
def notifier(event: CloudWatchEvent) -> dict[str, Any]:
    """Publish a notification of an alarm's change of state or of a run."""
    notification = notify(
        event.to_dict(),
        settings=get_settings(),
        notifier_settings=get_notifier_settings(),
        ports=get_notifier_ports(),
    )
    logger.info("notified", **notification)
    return notification


@app.route("/health")
def health() -> dict[str, str]:
    """Report that the function starts and has its settings; calls no AWS service."""
    get_settings()
    return {"status": "ok", "version": __version__}


app.register_blueprint(create_blueprint(get_service))
