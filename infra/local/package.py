"""Packaging of the app: `chalice package`, then the SAM transform."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from .errors import LocalCloudError

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = ROOT / "infra" / "overlay.yaml"
STORAGE = ROOT / "infra" / "storage.yaml"
QUERIES = ROOT / "infra" / "queries.yaml"
MAINTENANCE = ROOT / "infra" / "maintenance.yaml"
OBSERVABILITY = ROOT / "infra" / "observability.yaml"

# `make setup` downloads the wheels, so packaging needs no network.
WHEELS = ROOT / ".local" / "wheels"

# Cache of `chalice package` results, limited to the newest ones.
PACKAGES = ROOT / ".local" / "packages"
_MAX_CACHED = 10

# Chalice of the running interpreter, whose version determines the Lambda runtime.
CHALICE = [sys.executable, str(Path(sys.executable).with_name("chalice"))]

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Package:
    """The output of `chalice package`: the SAM template merged with the overlay, and the zip."""

    template: Template
    archive: Path


def package(stage: str, out: Path, *, region: str, overlay: Path | None = OVERLAY) -> Package:
    """Run `chalice package` for a stage and merge the overlay, or reuse a cached result.

    Results are cached in `.local/packages` by a hash of all inputs. `out` receives sam.yaml,
    sam.json (the same template) and deployment.zip.

    Raises:
        LocalCloudError: Chalice failed; the message contains its output.
    """
    key = _input_hash(stage, region, overlay)
    out.mkdir(parents=True, exist_ok=True)
    if not _restore(PACKAGES / key, out):
        _build(stage, out, region=region, overlay=overlay)
        # An input may have changed during the build.
        if _input_hash(stage, region, overlay) == key:
            _cache(out, PACKAGES / key)
    return Package(json.loads((out / "sam.json").read_text()), out / "deployment.zip")


def _build(stage: str, out: Path, *, region: str, overlay: Path | None) -> None:
    environ = {**os.environ, "AWS_DEFAULT_REGION": region}
    if WHEELS.is_dir():
        environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    command = [*CHALICE, "package", "--stage", stage, "--template-format", "yaml"]
    command += ["--merge-template", str(overlay)] if overlay else []
    command.append(str(out))
    result = subprocess.run(  # nosec B603 # noqa: S603 - our own interpreter
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LocalCloudError(f"chalice package failed:\n{result.stdout}{result.stderr}".rstrip())
    template = yaml.safe_load((out / "sam.yaml").read_text())
    (out / "sam.json").write_text(json.dumps(template))


def _input_hash(stage: str, region: str, overlay: Path | None) -> str:
    """Return a hash of the sources, lock file, wheels, versions and arguments."""
    folders = [ROOT / name for name in ("chalicelib", ".chalice", "vendor")]
    files = [ROOT / "app.py", ROOT / "requirements.txt", Path(__file__)]
    for folder in folders:
        files += [each for each in folder.rglob("*") if each.is_file() and _is_input(each)]
    versions = [sys.version, version("chalice"), sys.executable]
    wheels = sorted(each.name for each in WHEELS.glob("*"))
    digest = hashlib.sha256(repr((stage, region, overlay, versions, wheels)).encode())
    for file in sorted([*files, *([overlay] if overlay else [])]):
        digest.update(f"{file}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def _is_input(file: Path) -> bool:
    outputs = {"__pycache__", "deployments", "deployed"}
    return outputs.isdisjoint(file.relative_to(ROOT).parts)


def _restore(cached: Path, out: Path) -> bool:
    """Copy a cached result; return False if there is none."""
    try:
        shutil.copytree(cached, out, dirs_exist_ok=True)
    except (OSError, shutil.Error):
        return False  # not built yet, or removed by another process
    return True


def _cache(out: Path, cached: Path) -> None:
    """Add a result to the cache atomically, because other processes use it too; trim the cache."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PACKAGES, prefix="new-") as folder:
        copy = Path(folder) / cached.name
        copy.mkdir()
        for name in ("sam.yaml", "sam.json", "deployment.zip"):
            shutil.copy(out / name, copy)
        with contextlib.suppress(OSError):
            copy.rename(cached)
    with contextlib.suppress(OSError):
        results = [each for each in PACKAGES.iterdir() if not each.name.startswith("new-")]
        for old in sorted(results, key=lambda each: each.stat().st_mtime)[:-_MAX_CACHED]:
            shutil.rmtree(old, ignore_errors=True)


def transform(
    template: Template, *, code: dict[str, str], parameters: dict[str, str], region: str
) -> Template:
    """Apply the SAM transform; `code` is the zip's S3 location: `{"Bucket": ..., "Key": ...}`."""
    template = json.loads(json.dumps(template))  # the translator modifies its input
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
    session = boto3.Session(region_name=region)
    translator = Translator({}, Parser(), boto_session=session)
    transformed: Template = translator.translate(template, parameters)
    return transformed


def without_rest_api(template: Template) -> Template:
    """Remove API Gateway and everything that refers to it from a transformed template.

    moto rejects the REST API that SAM generates; `chalice local` serves the API instead.
    """
    resources = template["Resources"]
    removed = {
        name for name, each in resources.items() if each["Type"].startswith("AWS::ApiGateway::")
    }
    kept = {
        name: each
        for name, each in resources.items()
        if name not in removed and not _refers_to(each, removed)
    }
    outputs = {
        name: each
        for name, each in template.get("Outputs", {}).items()
        if not _refers_to(each, removed)
    }
    return {**template, "Resources": kept, "Outputs": outputs}


def _refers_to(value: Any, names: set[str]) -> bool:
    text = json.dumps(value)
    return any(f'"{name}"' in text or f"${{{name}" in text for name in names)
