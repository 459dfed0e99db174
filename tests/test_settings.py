"""Settings come from the environment, all at once or not at all."""

import json

import pytest

from chalicelib.errors import SettingsError
from chalicelib.settings import Settings, Threshold

from .conftest import ENVIRONMENT, ROOT, SETTINGS


def test_settings_are_read_from_the_environment() -> None:
    assert Settings.from_environ(ENVIRONMENT) == SETTINGS


def test_every_missing_and_bad_variable_is_named_at_once() -> None:
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
    ],
)
def test_a_bad_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(ENVIRONMENT | {name: value})


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_every_stage_has_all_settings(stage: str) -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    own = config["stages"][stage].get("environment_variables", {})
    Settings.from_environ(config["environment_variables"] | own)


def test_a_threshold_judges_each_part_of_a_resource() -> None:
    assert SETTINGS.threshold("disk", "percent:/var") == Threshold(80, 90)
    assert SETTINGS.threshold("disk", "used:/var") is None
    assert SETTINGS.threshold("network", "percent") is None
