"""Packaging reuses a cached result until an input changes."""

import sys
from pathlib import Path

import pytest

from infra.local import package as package_module
from infra.local.package import Package, package

# A fake of Chalice: it outputs the source, and logs each call.
CHALICE = """
import pathlib, sys
out = pathlib.Path(sys.argv[-1])
source = pathlib.Path("app.py").read_text()
(out / "sam.yaml").write_text("Resources: {Source: %s}" % source)
(out / "deployment.zip").write_text(source)
with open("calls", "a") as calls:
    calls.write("packaged\\n")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"app.py": "one", "requirements.txt": "", "overlay.yaml": ""}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "chalicelib" / "__pycache__").mkdir(parents=True)
    (tmp_path / "chalicelib" / "module.py").touch()
    (tmp_path / "chalice.py").write_text(CHALICE)
    monkeypatch.setattr(package_module, "ROOT", tmp_path)
    monkeypatch.setattr(package_module, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(package_module, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(package_module, "CHALICE", [sys.executable, "chalice.py"])
    return tmp_path


def build(project: Path, *, stage: str = "local", region: str = "eu-west-1") -> Package:
    out = project / "out" / str(len(list(project.glob("out/*"))))
    return package(stage, out, region=region, overlay=project / "overlay.yaml")


def calls(project: Path) -> int:
    return len((project / "calls").read_text().splitlines())


def test_unchanged_inputs_are_packaged_once(project: Path) -> None:
    built, reused = build(project), build(project)
    assert calls(project) == 1
    assert reused.template == built.template == {"Resources": {"Source": "one"}}
    assert reused.archive.read_text() == built.archive.read_text() == "one"
    assert reused.archive != built.archive


def test_a_compiled_module_is_not_an_input(project: Path) -> None:
    build(project)
    (project / "chalicelib" / "__pycache__" / "module.pyc").write_text("compiled")
    build(project)
    assert calls(project) == 1


@pytest.mark.parametrize(
    "name", ["app.py", "requirements.txt", "overlay.yaml", "chalicelib/module.py", "chalicelib/new"]
)
def test_a_changed_input_is_packaged_again(project: Path, name: str) -> None:
    build(project)
    (project / name).write_text("two")
    changed = build(project)
    assert calls(project) == 2
    assert changed.template == {"Resources": {"Source": (project / "app.py").read_text()}}


def test_another_stage_or_region_is_packaged_again(project: Path) -> None:
    build(project)
    build(project, stage="prod")
    build(project, region="us-east-1")
    assert calls(project) == 3


def test_only_the_newest_results_are_cached(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "_MAX_CACHED", 2)
    for number in range(3):
        build(project, stage=str(number))
    assert len(list((project / "packages").iterdir())) == 2
