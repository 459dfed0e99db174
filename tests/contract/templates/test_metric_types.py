"""Every metric type of the specifications is in the templates, the settings and the documentation.

docs/changes.md describes how to add one.
"""

import json
import re

import pytest
import yaml

from chalicelib.model.metric_types import METRIC_TYPES, SPECS
from infra.local.package import OVERLAY
from tests.conftest import ROOT, Template
from tests.conftest import load_template as load


@pytest.fixture(scope="module")
def states() -> Template:
    found: Template = load(OVERLAY)["Resources"]["Orchestrator"]["Properties"]["Definition"]
    return dict(found["States"])


def read(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def test_each_metric_type_has_one_branch_in_the_state_machine(states: Template) -> None:
    invoked = {
        state["Parameters"]["Payload"]["detail"]["metric_type"]: branch["StartAt"]
        for branch in states["CollectMetrics"]["Branches"]
        for state in branch["States"].values()
        if state["Type"] == "Task"
    }
    for name, spec in SPECS.items():
        assert name in invoked, (
            f"infra/overlay.yaml has no branch for the metric type {name}:"
            f" add one to CollectMetrics that starts at {spec.state}"
        )
    assert invoked == {name: spec.state for name, spec in SPECS.items()}


def test_the_branches_have_the_order_of_the_metric_types(states: Template) -> None:
    """The state machine names the results by their position."""
    starts = [branch["StartAt"] for branch in states["CollectMetrics"]["Branches"]]
    assert starts == [SPECS[name].state for name in METRIC_TYPES]
    named = {f"{name}.$": f"$.results[{at}]" for at, name in enumerate(METRIC_TYPES)}
    assert named.items() <= states["NameReports"]["Parameters"].items()


@pytest.mark.parametrize("state", ["PublishSuccess", "PublishFailure"])
def test_the_message_of_the_state_machine_has_every_summary(state: str, states: Template) -> None:
    message = states[state]["Parameters"]["Message.$"]
    summaries = re.findall(r"\$\.(\w+)\.summary", message)
    assert summaries == list(METRIC_TYPES)
    # The other three: the error, the scheduled time and the run.
    assert message.count("{}") == len(summaries) + 3


def test_the_configuration_has_the_thresholds_of_each_checked_type() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    variables = {spec.thresholds for spec in SPECS.values() if spec.checked}
    assert variables <= config["environment_variables"].keys()


def test_the_api_document_has_every_metric_type() -> None:
    schemas = yaml.safe_load(read("openapi.yaml"))["components"]["schemas"]
    assert schemas["MetricType"]["enum"] == list(METRIC_TYPES)
    assert schemas["HostHistory"]["properties"]["history"]["required"] == list(METRIC_TYPES)


@pytest.mark.parametrize(
    "metric", [metric.name for spec in SPECS.values() for metric in spec.fleet_metrics]
)
def test_the_documentation_lists_every_fleet_metric(metric: str) -> None:
    assert f"`{metric}`" in read("metrics.md").partition("## Run metrics")[0]


@pytest.mark.parametrize("name", METRIC_TYPES)
def test_the_documentation_of_records_lists_every_type(name: str) -> None:
    (row,) = re.findall(r"^\| `metric_type` \| (.+) \|$", read("records.md"), re.MULTILINE)
    assert f"`{name}`" in row


@pytest.mark.parametrize("name", METRIC_TYPES)
def test_the_page_has_a_title_for_every_type(name: str) -> None:
    rows = (ROOT / "chalicelib" / "page" / "host_rows.js").read_text()
    assert f'["{name}", ' in rows.partition("];")[0]
