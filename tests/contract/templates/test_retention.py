"""The retention of raw and processed data is the same everywhere."""

import json
import re

import pytest

from infra.local.package import MAINTENANCE, STORAGE
from tests.conftest import ROOT
from tests.conftest import load_template as load

DAYS = load(STORAGE)["Parameters"]["DataRetentionDays"]["Default"]


def test_chalice_deploy_has_the_default_of_the_storage_stack() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    assert config["environment_variables"]["RETENTION_DAYS"] == str(DAYS)


def test_athena_lists_the_days_of_every_permitted_retention() -> None:
    storage = load(STORAGE)
    table = storage["Resources"]["MetricsHistory"]["Properties"]["TableInput"]["Parameters"]
    (days,) = re.findall(r"NOW-(\d+)DAYS", table["projection.dt.range"])
    assert int(days) >= storage["Parameters"]["DataRetentionDays"]["MaxValue"]


def test_compaction_reaches_every_day_that_has_not_expired() -> None:
    machine = load(MAINTENANCE)["Resources"]["Compaction"]["Properties"]
    (days,) = re.findall(r"sequence\(0, (\d+)\)", machine["DefinitionSubstitutions"]["ListDaysSql"])
    assert int(days) >= DAYS


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("docs/deploy.md", "`DataRetentionDays` (default {days},"),
        ("docs/athena.md", "objects are deleted after {days} days."),
        ("docs/athena.md", "`processed/` as stored, {days} days:"),
        ("README.md", "the archive for data older than {days} days"),
    ],
)
def test_the_documentation_states_the_default(page: str, sentence: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    assert sentence.format(days=DAYS) in text
