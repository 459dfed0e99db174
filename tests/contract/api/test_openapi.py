"""docs/openapi.yaml is valid and describes the routes of the app."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

import app
from chalicelib import __version__
from chalicelib.api import parameters, runs
from tests.support.api import openapi

# The routes of the page, which are for browsers.
_PAGE = ("/", "/page/{file}")


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_valid() -> None:
    validate(openapi())


def test_the_validator_rejects_an_invalid_document() -> None:
    broken = copy.deepcopy(openapi())
    del broken["paths"]["/hosts"]["get"]["responses"]
    broken["paths"]["/hosts"]["get"]["parameters"] = [{"name": "x"}]
    with pytest.raises(OpenAPIValidationError):
        validate(broken)


def test_the_document_has_exactly_the_routes_of_the_app() -> None:
    routes = {
        (path.replace("{identity}", "{id}"), method.lower())
        for path, methods in app.app.routes.items()
        for method in methods
        if path not in _PAGE
    }
    assert {(path, method) for path, method, _ in operations()} == routes


def test_only_health_requires_no_signature() -> None:
    unsigned = {path for path, _, operation in operations() if operation.get("security") == []}
    assert unsigned == {"/health"}
    assert openapi()["security"] == [{"signature": []}]


def test_every_operation_documents_its_errors() -> None:
    for path, method, operation in operations():
        codes = set(operation["responses"])
        assert "500" in codes, (path, method)
        assert path == "/health" or {"400", "503"} <= codes, (path, method)


def test_the_documented_limits_are_those_of_the_code() -> None:
    shared = openapi()["components"]["parameters"]["Limit"]["schema"]
    assert shared["maximum"] == parameters.MAX_LIMIT
    (limit,) = openapi()["paths"]["/runs"]["get"]["parameters"]
    assert limit["schema"]["maximum"] == runs.MAX_RUNS


def test_the_documented_version_is_that_of_the_app() -> None:
    assert openapi()["info"]["version"] == __version__
