"""Which folder may import which; read from the source, so no import is missed at run time."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Folder -> the folders of chalicelib that it may import. Reads as layers from bottom to top:
# a pure model, the telemetry, the four applications, which do not import each other, and the
# adapters to AWS, which implement the applications' protocols.
LAYERS: dict[str, set[str]] = {
    "model": set(),
    "telemetry": {"model"},
    "collect": {"model", "telemetry"},
    "process": {"model", "telemetry"},
    "notify": {"model"},
    "api": {"model"},
    "aws": {"model", "collect", "notify", "api"},
}

# The same for infra, which may import all of chalicelib.
TOOLS: dict[str, set[str]] = {
    "agent": {"command_line"},
    "operate": {"command_line"},
    "local": {"command_line"},
    "report": {"local"},
    "develop": {"command_line", "local", "report"},
}

SDK = {"boto3", "botocore"}
MODULES = sorted((ROOT / "chalicelib").rglob("*.py"))
TOOL_MODULES = sorted((ROOT / "infra").rglob("*.py"))


def import_statements(
    source: str, package: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Each imported module by its absolute name in parts, with the names imported from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            rest = node.module.split(".") if node.module else ()
            yield (*base, *rest), [alias.name for alias in node.names]


def folders(source: str, package: Sequence[str], top: str) -> set[str]:
    """The folders directly below `top` that the source imports from."""
    found = set()
    for module, names in import_statements(source, package):
        if module[0] == top:
            found |= {module[1]} if len(module) > 1 else set(names)
    return found


def packages(path: Path) -> set[str]:
    """The top-level packages that a module imports."""
    statements = import_statements(path.read_text(), path.relative_to(ROOT).parent.parts)
    return {module[0] for module, _ in statements}


def folder_of(path: Path, top: str) -> str:
    return path.relative_to(ROOT / top).parts[0]


def is_outside(path: Path, top: str, allowed: dict[str, set[str]]) -> set[str]:
    """The folders that the module imports against the rules."""
    package = path.relative_to(ROOT).parent.parts
    own = folder_of(path, top)
    return folders(path.read_text(), package, top) - {own, *allowed[own]}


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


LAYERED = [path for path in MODULES if path.parent != ROOT / "chalicelib"]


@pytest.mark.parametrize("path", LAYERED, ids=ids)
def test_a_folder_imports_only_folders_below_it(path: Path) -> None:
    assert not is_outside(path, "chalicelib", LAYERS)


@pytest.mark.parametrize("path", [p for p in TOOL_MODULES if p.parent != ROOT / "infra"], ids=ids)
def test_a_tool_imports_only_the_tools_that_it_is_built_on(path: Path) -> None:
    assert not is_outside(path, "infra", TOOLS)


def test_the_layers_have_no_cycle() -> None:
    seen: set[str] = set()
    for folder, below in LAYERS.items():
        assert below <= seen
        seen.add(folder)


def test_every_folder_has_a_rule() -> None:
    assert {folder_of(path, "chalicelib") for path in LAYERED} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_only_the_adapters_import_boto3(path: Path) -> None:
    assert folder_of(path, "chalicelib") == "aws" or not SDK & packages(path)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_only_the_routes_import_chalice(path: Path) -> None:
    allowed = {"chalice"} if path == ROOT / "chalicelib" / "api" / "routes.py" else set()
    assert {"chalice", "infra", "moto", "app"} & packages(path) == allowed


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_of_chalicelib_import_each_other_relatively(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        assert "chalicelib" not in {name.split(".")[0] for name in names}, names


@pytest.mark.parametrize(
    "source",
    [
        "import chalicelib.process.processor",
        "from chalicelib.process.processor import process",
        "from chalicelib import process",
        "from ..process.processor import process",
        "from .. import process",
    ],
)
def test_the_check_finds_every_form_of_an_import(source: str) -> None:
    assert folders(source, ("chalicelib", "aws"), "chalicelib") == {"process"}


def test_the_check_finds_a_forbidden_import_in_a_real_module() -> None:
    assert packages(ROOT / "chalicelib" / "aws" / "clients.py") >= SDK
    store = ROOT / "chalicelib" / "aws" / "store.py"
    assert is_outside(store, "chalicelib", {"aws": set()}) == {"model"}


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
