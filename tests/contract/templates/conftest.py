"""Fixtures for the template of the app, and functions that search a template."""

import re
from pathlib import Path
from typing import Any

import pytest

from infra.local.package import package, transform
from tests.conftest import REGION, Template


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="session")
def merged(out: Path) -> Template:
    """Output of `chalice package --stage prod --merge-template infra/overlay.yaml`."""
    return package("prod", out, region=REGION).template


@pytest.fixture(scope="session")
def transformed(merged: Template) -> Template:
    """Output of the SAM transform of `merged`."""
    code = {"Bucket": "artifacts", "Key": "deployment.zip"}
    return transform(merged, code=code, parameters={"Suffix": ""}, region=REGION)


@pytest.fixture(scope="session")
def without_overlay(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Output of `chalice package` without the overlay."""
    return package("prod", tmp_path_factory.mktemp("plain"), region=REGION, overlay=None).template


def values(template: Any, key: str) -> list[Any]:
    """Every value of a key, at any depth."""
    if isinstance(template, list):
        return [found for each in template for found in values(each, key)]
    if not isinstance(template, dict):
        return []
    found = [template[key]] if key in template else []
    return found + [each for value in template.values() for each in values(value, key)]


def references(value: Any) -> set[str]:
    """The logical IDs, parameters and pseudo parameters that a part of a template refers to."""
    found: set[str] = set()
    if isinstance(value, list):
        for each in value:
            found |= references(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "Ref":
                found.add(each)
            elif name == "Fn::GetAtt":
                found.add(each.split(".")[0] if isinstance(each, str) else each[0])
            elif name == "Fn::Sub":
                text, variables = (each, {}) if isinstance(each, str) else each
                named = {part.split(".")[0] for part in re.findall(r"\$\{([^!}]+)\}", text)}
                found |= named - set(variables)
            elif name == "DependsOn":
                found |= {each} if isinstance(each, str) else set(each)
            found |= references(each) if name not in {"Ref", "Fn::GetAtt"} else set()
    return found
