"""Imports point one way, and boto3 is in one place. Read from the source, not from a run."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .conftest import ROOT

PURE = {"errors", "windows", "records", "settings", "parsing", "enrichment", "items", "lines"}
PURE |= {"storage", "metrics", "statistics", "ticks", "results", "map_runs", "telemetry"}
PURE |= {
    "alarm_message",
    "alarms",
    "batches",
    "hosts",
    "names",
    "notification",
    "queries",
    "refusal",
}
PURE |= {"run_message", "unpacking"}
USE_CASES = {"collector", "notifier", "planning", "processor"}
# The part of its work that a use case has given to a module of its own.
PARTS = {"collector": {"planning"}, "processor": {"writing"}}
SDK = {"boto3", "botocore"}

MODULES = sorted((ROOT / "chalicelib").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """What a module imports: packages by their name, our own modules as `.name`."""
    return imports_of(path.read_text(), path.relative_to(ROOT).parent.parts)


def imports_of(source: str, package: Sequence[str]) -> Iterator[str]:
    for module, names in import_statements(source, package):
        if module[0] != "chalicelib":
            yield module[0]
        elif len(module) > 1:
            yield f".{module[1]}"
        else:
            yield from (f".{name}" for name in names)


def import_statements(
    source: str, package: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Each module that is imported, by its absolute name in parts, and the names out of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            rest = node.module.split(".") if node.module else ()
            yield (*base, *rest), [alias.name for alias in node.names]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "chalicelib").with_suffix("").as_posix().split("/")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_adapter_touches_boto3(path: Path) -> None:
    assert name_of(path) == "aws" or not SDK & set(imported(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_but_the_routes_knows_of_chalice_and_nothing_of_the_local_cloud(
    path: Path,
) -> None:
    known = {"chalice"} if path == ROOT / "chalicelib" / "api" / "routes.py" else set()
    assert {"chalice", "infra", "moto", "app"} & set(imported(path)) == known


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_inwards(path: Path) -> None:
    own = {name[1:] for name in imported(path) if name.startswith(".")} - {name_of(path)}
    allowed = PURE | ({"sources"} if name_of(path) in USE_CASES | {"aws"} else set())
    allowed |= PARTS.get(name_of(path), set())
    allowed |= {"api"} if name_of(path) == "aws" else set()  # it gives the API what it reads
    assert own <= allowed, f"{name_of(path)} imports {own - allowed}"


def test_there_is_no_cycle() -> None:
    graph = {
        name_of(path): {name[1:] for name in imported(path) if name.startswith(".")}
        for path in MODULES
        if path.name != "__init__.py"
    }
    waiting = {name: (needs & set(graph)) - {name} for name, needs in graph.items()}
    while free := {name for name, needs in waiting.items() if not needs & set(waiting)}:
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
    assert not waiting


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_import_each_other_relatively(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        assert "chalicelib" not in {name.split(".")[0] for name in names}, names


def test_the_guard_itself_sees_a_forbidden_import() -> None:
    module = ROOT / "chalicelib" / "aws" / "store.py"
    assert {"boto3", "botocore", ".items"} <= set(imported(module))


@pytest.mark.parametrize(
    "source",
    [
        "import chalicelib.processor",
        "from chalicelib.processor import process",
        "from chalicelib import processor",
        "from ..processor import process",
        "from .. import processor",
    ],
)
def test_the_guard_sees_our_own_modules_in_every_form(source: str) -> None:
    assert list(imports_of(source, ("chalicelib", "aws"))) == [".processor"]


def test_handlers_are_short() -> None:
    """`app.py` is the composition root: each handler unwraps, calls, returns."""
    functions = [
        node
        for node in ast.parse((ROOT / "app.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) >= 5
    for function in functions:
        assert len(function.body) <= 5, function.name
