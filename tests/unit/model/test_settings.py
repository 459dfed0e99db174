"""Settings from environment variables."""

import json

import pytest

from chalicelib.model.errors import SettingsError
from chalicelib.model.settings import Settings
from chalicelib.model.status import Threshold
from tests.conftest import ENVIRONMENT, ROOT, SETTINGS


def test_settings_are_read_from_the_environment() -> None:
    assert Settings.from_environ(ENVIRONMENT) == SETTINGS


def test_an_error_names_every_missing_and_invalid_variable() -> None:
    environment = ENVIRONMENT | {"CPU_THRESHOLDS": "90,80", "WINDOW_SECONDS": "soon"}
    del environment["TABLE_NAME"]
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environment)
    assert [problem.split()[0].split("=")[0] for problem in caught.value.problems] == [
        "TABLE_NAME",
        "WINDOW_SECONDS",
        "CPU_THRESHOLDS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUCKET_NAME", " "),
        ("METRIC_SOURCES", ","),
        ("WINDOW_SECONDS", "59"),
        ("WINDOW_SECONDS", "604801"),
        ("CPU_SAMPLE_SECONDS", "0"),
        ("CPU_THRESHOLDS", "80"),
        ("DISK_THRESHOLDS", "80,101"),
        ("RETENTION_DAYS", "0"),
        ("NODE_EXPORTER_TARGETS", "web-1"),
        ("NODE_EXPORTER_TARGETS", "web-1:9100 web-2:0"),
        ("NODE_EXPORTER_TARGETS", "web-1:65536"),
        ("NODE_EXPORTER_TARGETS", "http://web-1:9100/metrics"),
        ("NODE_EXPORTER_TARGETS", "https://dns+nodes.internal:9100"),
        ("NODE_EXPORTER_TARGETS", "fd00::7:9100"),
        ("NODE_EXPORTER_TIMEOUT_SECONDS", "0"),
        ("NODE_EXPORTER_TIMEOUT_SECONDS", "nan"),
        ("NODE_EXPORTER_MAX_BYTES", "0"),
    ],
)
def test_an_invalid_value_is_rejected(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(ENVIRONMENT | {name: value})


NODE_EXPORTER = [name for name in ENVIRONMENT if name.startswith("NODE_EXPORTER_")]


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name not in names}


def test_the_variables_of_an_unused_source_are_optional() -> None:
    assert Settings.from_environ(without(*NODE_EXPORTER)).node_exporter_targets == ()


def test_an_empty_variable_of_an_unused_source_counts_as_missing() -> None:
    assert Settings.from_environ(ENVIRONMENT | dict.fromkeys(NODE_EXPORTER, ""))


def test_an_error_names_the_missing_variables_of_a_used_source_too() -> None:
    environment = without("BUCKET_NAME", *NODE_EXPORTER)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environment | {"METRIC_SOURCES": "host,node_exporter"})
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "BUCKET_NAME",
        *NODE_EXPORTER,
    ]
    assert caught.value.problems[1].endswith("is missing (node_exporter needs it)")


def test_a_target_is_a_name_an_address_or_all_addresses_of_a_name() -> None:
    targets = tuple(
        "web-1.internal:9100 10.0.0.7:9100 [fd00::7]:9100 https://web-2:9100 https://[fd00::8]:9100"
        " dns+nodes.internal:9100".split()
    )
    environment = ENVIRONMENT | {"NODE_EXPORTER_TARGETS": " ".join(targets)}
    assert Settings.from_environ(environment).node_exporter_targets == targets


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_every_stage_has_all_settings(stage: str) -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    of_stage = config["stages"][stage].get("environment_variables", {})
    Settings.from_environ(config["environment_variables"] | of_stage)


def test_a_threshold_applies_to_each_component() -> None:
    assert SETTINGS.threshold("disk", "percent:/var") == Threshold(80, 90)
    assert SETTINGS.threshold("disk", "used:/var") is None
    assert SETTINGS.threshold("network", "percent") is None
