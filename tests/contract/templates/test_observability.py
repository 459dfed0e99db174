"""infra/observability.yaml: what it refers to is there, and it costs what it says."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from chalicelib.model.metric_types import METRIC_TYPES, SPECS
from infra.develop.lint import CFN_LINT
from infra.local.cloudformation import resources
from infra.local.cloudwatch import alarms, metric_index
from infra.local.cloudwatch.alarms import Alarms
from infra.local.cloudwatch.metrics import Metrics
from infra.local.package import OBSERVABILITY, OVERLAY, STORAGE
from infra.report.observation import billed_metrics
from infra.report.report import FREE_ALARM_METRICS
from tests.conftest import ACCOUNT, REGION, load_template

# The six of the drawing.
DRAWN = {
    "HighCPU",
    "HighMemory",
    "CollectorErrors",
    "ProcessorErrors",
    "DynamoDBThrottle",
    "LambdaDuration",
}
FUNCTIONS = {"data-collector", "log-processor", "notifier"}

# (namespace, name) -> the dimensions it comes with; docs/metrics.md.
OF_THE_FLEET = [
    *(metric.name for spec in SPECS.values() for metric in spec.fleet_metrics),
    *"HostsExpected HostsReporting HostsMissing SeriesBilled".split(),
]
OF_PROCESSOR = "RecordsReceived RecordsStored RecordsQuarantined ObjectsGivenUp".split()
OF_FUNCTIONS = "LambdaErrors LambdaDuration LambdaMemoryUsed".split()
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch"

Series = tuple[str, str, frozenset[tuple[str, str]]]


def series(namespace: str, name: str, dimensions: dict[str, str] | None = None) -> Series:
    return namespace, name, frozenset((dimensions or {}).items())


def of_lambda() -> Iterator[Series]:
    for name in ("Invocations", "Errors", "Duration", "Throttles"):
        for function in FUNCTIONS:
            yield series("AWS/Lambda", name, {"FunctionName": function})


def of_aws() -> Iterator[Series]:
    yield from of_lambda()
    for name in ("Started", "Succeeded", "Failed", "TimedOut", "Aborted"):
        yield series("AWS/States", f"Executions{name}", {"StateMachineArn": MACHINE})
    queue = {"QueueName": "InfraMonitoring-DeadLetters"}
    yield series("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue)
    index = {"GlobalSecondaryIndexName": "metric_type-timestamp-index"}
    for name in ("ReadThrottleEvents", "WriteThrottleEvents"):
        yield series("AWS/DynamoDB", name, {"TableName": "InfraMetrics"})
        yield series("AWS/DynamoDB", name, {"TableName": "InfraMetrics", **index})


def of_ours() -> Iterator[Series]:
    for name in OF_THE_FLEET:
        yield series("InfraMonitoring", name)
    for metric_type in METRIC_TYPES:
        yield series("InfraMonitoring", "RunDuration", {"metric_type": metric_type})
    for name in OF_PROCESSOR:
        yield series("InfraMonitoring", name, {"service": "log-processor"})
    for name in OF_FUNCTIONS:
        for function in FUNCTIONS:
            yield series("InfraMonitoring", name, {"service": function})


EMITTED = {*of_aws(), *of_ours()}

Deploy = Callable[..., Any]


@pytest.fixture
def deploy() -> Iterator[Deploy]:
    """Deploys the template with parameters into moto; returns a CloudWatch client."""
    metric_index.install()
    alarms.install()
    factory: Any = cache(boto3.client)
    with mock_aws():
        kept = resources.install(lambda service: factory(service, region_name=REGION))

        def deploy(**parameters: str) -> Any:
            factory("cloudformation", region_name=REGION).create_stack(
                StackName="observability",
                TemplateBody=OBSERVABILITY.read_text(),
                Parameters=[
                    {"ParameterKey": name, "ParameterValue": value}
                    for name, value in parameters.items()
                ],
            )
            return factory("cloudwatch", region_name=REGION)

        yield deploy
        del kept


def names(deployed: Any) -> set[str]:
    described = deployed.describe_alarms()
    found = described["MetricAlarms"] + described["CompositeAlarms"]
    return {each["AlarmName"].removeprefix("InfraMonitoring-") for each in found}


def watched(alarm: dict[str, Any]) -> list[Series]:
    """The metrics of an alarm."""
    queries = alarm.get("Metrics") or []
    plain = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]
    return [
        series(
            metric["Namespace"],
            metric["MetricName"],
            {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])},
        )
        for metric in plain or [alarm]
    ]


def test_cfn_lint_reports_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CFN_LINT, OBSERVABILITY], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_every_alarm_watches_metrics_that_are_emitted(deploy: Deploy) -> None:
    described = deploy(AlarmSet="All").describe_alarms()["MetricAlarms"]
    assert len(described) > len(DRAWN)
    for alarm in described:
        assert set(watched(alarm)) <= EMITTED, alarm["AlarmName"]


def test_the_resources_that_alarms_refer_to_by_name_exist_in_the_other_templates() -> None:
    storage, overlay = load_template(STORAGE)["Resources"], load_template(OVERLAY)["Resources"]
    table = storage["MetricsTable"]["Properties"]
    assert table["TableName"] == {"Fn::Sub": "InfraMetrics${Suffix}"}
    assert table["GlobalSecondaryIndexes"][0]["IndexName"] == "metric_type-timestamp-index"
    queue = storage["DeadLetterQueue"]["Properties"]["QueueName"]
    assert queue == {"Fn::Sub": "InfraMonitoring-DeadLetters${Suffix}"}
    topic = storage["AlarmTopic"]["Properties"]["TopicName"]
    assert topic == {"Fn::Sub": "InfraMonitoring-Alarms${Suffix}"}
    machine = overlay["Orchestrator"]["Properties"]["StateMachineName"]
    assert machine == {"Fn::Sub": "InfraMonitoring-Pipeline-Orch${Suffix}"}


def test_the_default_has_the_drawn_alarms_and_stays_in_the_free_tier(deploy: Deploy) -> None:
    deployed = deploy()
    described = deployed.describe_alarms()
    assert names(deployed) >= DRAWN
    assert sum(map(billed_metrics, described["MetricAlarms"])) <= FREE_ALARM_METRICS
    assert described["CompositeAlarms"] == []  # each is $0.50 a month


def test_the_set_all_has_every_alarm_and_the_page_alarm(deploy: Deploy) -> None:
    more = "PipelineStopped RunFailed HostsMissing DeadLettersWaiting QuarantineNotEmpty"
    more += " DiskNearlyFull DiskFillsUp FunctionMemory SeriesBudget NotifierErrors Page"
    assert names(deploy(AlarmSet="All")) == DRAWN | set(more.split())


def test_a_stage_watches_only_its_own_metrics(deploy: Deploy) -> None:
    for alarm in deploy(Suffix="-dev", AlarmSet="All").describe_alarms()["MetricAlarms"]:
        assert alarm["AlarmName"].endswith("-dev")
        for namespace, _, dimensions in watched(alarm):
            own = {value for name, value in dimensions if name != "GlobalSecondaryIndexName"}
            assert namespace == "InfraMonitoring-dev" or own
            assert all(value.endswith("-dev") for value in own)


@pytest.mark.parametrize(
    "hours", load_template(OBSERVABILITY)["Parameters"]["CadenceHours"]["AllowedValues"]
)
def test_cloudwatch_accepts_the_alarms_of_every_cadence(deploy: Deploy, hours: str) -> None:
    described = deploy(CadenceHours=hours, AlarmSet="All").describe_alarms()["MetricAlarms"]
    (stopped,) = [each for each in described if each["AlarmName"].endswith("PipelineStopped")]
    (succeeded,) = [each for each in stopped["Metrics"] if "MetricStat" in each]
    assert succeeded["MetricStat"]["Period"] == 2 * 3600 * int(hours) + 900


def test_every_alarm_has_a_description(deploy: Deploy) -> None:
    described = deploy(AlarmSet="All").describe_alarms()
    for alarm in described["MetricAlarms"] + described["CompositeAlarms"]:
        assert alarm["AlarmDescription"].endswith(".")
        assert "${" not in alarm["AlarmDescription"]


def test_only_alarms_that_cover_the_notifier_publish_to_the_topic_directly(deploy: Deploy) -> None:
    described = deploy(AlarmSet="All").describe_alarms()["MetricAlarms"]
    direct = {each["AlarmName"]: each["AlarmActions"] for each in described if each["AlarmActions"]}
    topic = [f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Alarms"]
    assert direct == {
        "InfraMonitoring-DeadLettersWaiting": topic,
        "InfraMonitoring-NotifierErrors": topic,
    }


def dashboard(deployed: Any) -> list[dict[str, Any]]:
    body = json.loads(deployed.get_dashboard(DashboardName="InfraMonitoring")["DashboardBody"])
    widgets: list[dict[str, Any]] = body["widgets"]
    return widgets


def drawn(widget: dict[str, Any]) -> Iterator[Series]:
    """The metrics of a widget; "..." repeats the previous one."""
    before: list[str] = []
    for line in widget["properties"]["metrics"]:
        parts = [part for part in line if isinstance(part, str)]
        if not parts:
            assert "expression" in line[0]
            continue
        before = before if parts == ["..."] else parts
        namespace, name, *pairs = before
        yield series(namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True)))


def test_every_widget_names_metrics_that_are_emitted(deploy: Deploy) -> None:
    widgets = [each for each in dashboard(deploy()) if each["type"] == "metric"]
    assert widgets
    for widget in widgets:
        assert set(drawn(widget)) <= EMITTED, widget["properties"]["title"]


def test_the_dashboard_shows_every_metric_of_the_fleet(deploy: Deploy) -> None:
    widgets = [each for each in dashboard(deploy()) if each["type"] == "metric"]
    shown = {name for widget in widgets for _, name, _ in drawn(widget)}
    assert shown >= {*OF_THE_FLEET, *OF_PROCESSOR, *OF_FUNCTIONS, "RunDuration"}


def test_the_dashboard_is_within_the_free_50_metrics(deploy: Deploy) -> None:
    widgets = [each for each in dashboard(deploy()) if each["type"] == "metric"]
    assert len({each for widget in widgets for each in drawn(widget)}) <= 50


@pytest.mark.parametrize("alarm_set", ["FreeTier", "All"])
def test_the_dashboard_shows_every_deployed_alarm(deploy: Deploy, alarm_set: str) -> None:
    deployed = deploy(AlarmSet=alarm_set)
    (widget,) = [each for each in dashboard(deployed) if each["type"] == "alarm"]
    shown = {arn.rpartition(":alarm:InfraMonitoring-")[2] for arn in widget["properties"]["alarms"]}
    assert shown == names(deployed)


def test_widgets_fit_the_grid_and_do_not_overlap(deploy: Deploy) -> None:
    widgets = dashboard(deploy())
    assert all(each["x"] + each["width"] <= 24 for each in widgets)
    for one, other in combinations(widgets, 2):
        beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        above = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        assert beside or above


def test_saved_queries_read_log_groups_of_our_functions() -> None:
    found = load_template(OBSERVABILITY)["Resources"].values()
    queries = [each for each in found if each["Type"] == "AWS::Logs::QueryDefinition"]
    assert queries
    for query in queries:
        for group in query["Properties"]["LogGroupNames"]:
            name = group["Fn::Sub"].removeprefix("/aws/lambda/").removesuffix("${Suffix}")
            assert name in FUNCTIONS


# --- Days of runs, minute by minute -------------------------------------------------------------

START = datetime(2026, 11, 2, tzinfo=UTC)
OF_MACHINE = {"StateMachineArn": MACHINE}


class Days:
    """Runs every three hours, each some minutes late, and the states of the alarms."""

    def __init__(self) -> None:
        backend = cloudwatch_backends[ACCOUNT][REGION]
        self.now = START
        self.metrics = Metrics(backend)
        self.alarms = Alarms(backend, self.metrics, on_change=lambda _: None, now=lambda: self.now)

    def run(self, **values: float) -> None:
        """A successful run now; its metrics are 0 except for `values`."""
        self.metrics.put("AWS/States", "ExecutionsSucceeded", OF_MACHINE, [1], "Count", self.now)
        for name in ("CPUBreachMinutes", "MemoryBreachMinutes", "HostsMissing", "DiskUsageMaximum"):
            self.metrics.put("InfraMonitoring", name, {}, [values.get(name, 0)], "None", self.now)

    def pass_by(self, hours: float, *, runs: bool = True, **values: float) -> list[tuple[str, str]]:
        """Advance the clock and evaluate every minute; returns the changed alarms and states."""
        changes = []
        for minute in range(int(hours * 60)):
            number = int((self.now - START).total_seconds() // 10_800)
            late = timedelta(minutes=number * 7 % 11)
            if runs and self.now == START + timedelta(hours=3 * number) + late:
                self.run(**values if minute < 180 else {})
            changes += [(each.name, each.state) for each in self.alarms.evaluate()]
            self.now += timedelta(minutes=1)
        return [(name.removeprefix("InfraMonitoring-"), state) for name, state in changes]


@pytest.fixture
def days(deploy: Deploy) -> Days:
    deploy(AlarmSet="All")
    days = Days()
    days.pass_by(6)
    return days


def test_late_runs_change_no_state(days: Days) -> None:
    assert days.pass_by(48) == []


def test_one_window_in_breach_causes_one_alarm_that_ends(days: Days) -> None:
    assert days.pass_by(12, CPUBreachMinutes=15) == [
        ("HighCPU", "ALARM"),
        ("Page", "ALARM"),
        ("HighCPU", "OK"),
        ("Page", "OK"),
    ]


def test_a_long_breach_causes_one_alarm(days: Days) -> None:
    changes = [each for _ in range(4) for each in days.pass_by(3, CPUBreachMinutes=180)]
    assert changes == [("HighCPU", "ALARM"), ("Page", "ALARM")]


def test_a_stopped_pipeline_causes_an_alarm_after_two_cadences(days: Days) -> None:
    """The last run was at 3:07: the alarm changes at 9:22, not when a run is due at 9:00."""
    assert days.pass_by(3, runs=False) == []
    assert days.pass_by(0.5, runs=False) == [("PipelineStopped", "ALARM"), ("Page", "ALARM")]


def test_the_alarm_ends_when_the_pipeline_runs_again(days: Days) -> None:
    days.pass_by(12, runs=False)
    assert days.pass_by(3) == [("PipelineStopped", "OK"), ("Page", "OK")]


def test_alarms_on_hosts_keep_their_state_without_runs(days: Days) -> None:
    days.pass_by(3, HostsMissing=2)
    changes = days.pass_by(48, runs=False)
    assert "HostsMissing" not in dict(changes)


def test_a_growing_disk_causes_an_alarm_after_two_windows(days: Days) -> None:
    def grows() -> list[tuple[str, str]]:
        days.metrics.put("InfraMonitoring", "DiskHoursToFull", {}, [12], "None", days.now)
        return days.pass_by(3)

    assert grows() == []
    assert ("DiskFillsUp", "ALARM") in grows()


def test_throttling_of_the_index_causes_an_alarm_that_ends(days: Days) -> None:
    of_index = {
        "TableName": "InfraMetrics",
        "GlobalSecondaryIndexName": "metric_type-timestamp-index",
    }
    days.metrics.put("AWS/DynamoDB", "WriteThrottleEvents", of_index, [3], "Count", days.now)
    assert days.pass_by(6) == [("DynamoDBThrottle", "ALARM"), ("DynamoDBThrottle", "OK")]
