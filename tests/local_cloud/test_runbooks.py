"""The runbooks: a page for each alarm, with commands and queries that work."""

import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from chalicelib.model.alarm_catalog import ALARMS
from infra.__main__ import _parser
from tests.conftest import ROOT, RunningCloud
from tests.local_cloud.test_pipeline import ask, rows

PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
OF_ALARMS = [page for page in PAGES if page.stem != "README"]
TEXTS = {page.stem: page.read_text() for page in PAGES}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str, program: str) -> list[list[str]]:
    """Every call of a program, in blocks and within lines."""
    lines = [
        line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").split("\n")
    ]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [line.strip() for line in lines if line.strip().startswith(program)]
    return [shlex.split(line.removeprefix(program)) for line in found]


def test_each_alarm_has_its_page_and_each_page_its_alarm() -> None:
    assert {page.stem for page in OF_ALARMS} == set(ALARMS)
    assert all((ROOT / "docs" / "runbooks" / each.runbook).exists() for each in ALARMS.values())


@pytest.mark.parametrize("page", OF_ALARMS, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_where_to_look_why_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}: ")
    assert re.findall("^## (.+)", text, re.MULTILINE) == ["First look", "Usual causes", "Fix"]
    look = text.partition("## First look")[2].partition("## Usual")[0]
    assert blocks(look, "sh") + blocks(look, "sql")


def test_the_index_links_every_page() -> None:
    linked = set(re.findall(r"\]\((\w+)\.md\)", TEXTS["README"]))
    assert linked == set(ALARMS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


OURS = [
    pytest.param(arguments, id=f"{name}: {' '.join(arguments)}")
    for name, text in TEXTS.items()
    for arguments in commands(text, ".venv/bin/python -m infra")
]


@pytest.mark.parametrize("arguments", OURS)
def test_every_command_of_ours_is_one(arguments: list[str]) -> None:
    assert _parser(arguments).parse_args(arguments).command


def test_pages_use_the_operators_commands() -> None:
    used = {param.values[0][0] for param in OURS}  # type: ignore[index]
    assert used == {"redrive", "verify", "quarantine"}


AWS = [
    pytest.param(arguments, id=f"{name}: {' '.join(arguments[:2])}")
    for name, text in TEXTS.items()
    for arguments in commands(text, "aws ")
]


@pytest.mark.parametrize("arguments", AWS)
def test_every_aws_command_has_options_that_its_service_knows(arguments: list[str]) -> None:
    service, operation, *rest = arguments
    model = botocore.session.get_session().get_service_model(service)
    (found,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
    shape = model.operation_model(found).input_shape
    assert shape is not None
    members = {xform_name(each, "-") for each in shape.members}
    options = [each.removeprefix("--") for each in rest if each.startswith("--")]
    assert set(options) <= members


def test_there_are_aws_commands_to_check() -> None:
    assert len(AWS) > 10


QUERIES = [
    pytest.param(query, id=name) for name, text in TEXTS.items() for query in blocks(text, "sql")
]


@pytest.mark.parametrize("query", QUERIES)
def test_athena_answers_every_query(query: str, cloud: RunningCloud) -> None:
    header, *_ = rows(cloud, ask(cloud, query))
    assert len(header) > 1
