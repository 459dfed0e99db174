"""The runbooks: one for each alarm, with valid commands and queries."""

import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from chalicelib.model.alarm_catalog import ALARMS
from infra.__main__ import _parser
from tests.conftest import ROOT, RunningCloud
from tests.local_cloud.test_pipeline import query_athena, rows

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
ALARM_RUNBOOKS = [runbook for runbook in RUNBOOKS if runbook.stem != "README"]
TEXTS = {runbook.stem: runbook.read_text() for runbook in RUNBOOKS}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program, in code blocks and inline code."""
    lines = [
        line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").split("\n")
    ]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [line.strip() for line in lines if line.strip().startswith(program)]
    return [shlex.split(line.removeprefix(program)) for line in found]


def test_there_is_one_runbook_for_each_alarm() -> None:
    assert {runbook.stem for runbook in ALARM_RUNBOOKS} == set(ALARMS)
    assert all((ROOT / "docs" / "runbooks" / each.runbook).exists() for each in ALARMS.values())


@pytest.mark.parametrize("runbook", ALARM_RUNBOOKS, ids=lambda runbook: runbook.stem)
def test_a_runbook_has_a_title_and_three_sections(runbook: Path) -> None:
    text = runbook.read_text()
    assert text.startswith(f"# {runbook.stem}: ")
    assert re.findall("^## (.+)", text, re.MULTILINE) == ["First look", "Usual causes", "Fix"]
    first_look = text.partition("## First look")[2].partition("## Usual")[0]
    assert blocks(first_look, "sh") + blocks(first_look, "sql")


def test_the_index_links_every_runbook() -> None:
    linked = set(re.findall(r"\]\((\w+)\.md\)", TEXTS["README"]))
    assert linked == set(ALARMS)


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda runbook: runbook.stem)
def test_every_link_has_a_target(runbook: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", runbook.read_text()):
        assert (runbook.parent / link).exists(), link


INFRA = [
    pytest.param(arguments, id=f"{name}: {' '.join(arguments)}")
    for name, text in TEXTS.items()
    for arguments in commands(text, ".venv/bin/python -m infra")
]


@pytest.mark.parametrize("arguments", INFRA)
def test_every_infra_command_can_be_parsed(arguments: list[str]) -> None:
    assert _parser(arguments).parse_args(arguments).command


def test_runbooks_use_the_operating_commands() -> None:
    used = {param.values[0][0] for param in INFRA}  # type: ignore[index]
    assert used == {"redrive", "verify", "quarantine"}


AWS = [
    pytest.param(arguments, id=f"{name}: {' '.join(arguments[:2])}")
    for name, text in TEXTS.items()
    for arguments in commands(text, "aws ")
]


@pytest.mark.parametrize("arguments", AWS)
def test_the_options_of_every_aws_command_exist(arguments: list[str]) -> None:
    service, operation, *rest = arguments
    model = botocore.session.get_session().get_service_model(service)
    (found,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
    shape = model.operation_model(found).input_shape
    assert shape is not None
    members = {xform_name(each, "-") for each in shape.members}
    options = [each.removeprefix("--") for each in rest if each.startswith("--")]
    assert set(options) <= members


def test_runbooks_contain_aws_commands() -> None:
    assert len(AWS) > 10


QUERIES = [
    pytest.param(query, id=name) for name, text in TEXTS.items() for query in blocks(text, "sql")
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_succeeds(query: str, cloud: RunningCloud) -> None:
    header, *_ = rows(cloud, query_athena(cloud, query))
    assert len(header) > 1
