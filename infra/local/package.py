"""From the source tree to CloudFormation: `chalice package`, then the SAM transform."""

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

# Filled by `make setup`, so that packaging needs no network later.
WHEELS = ROOT / ".local" / "wheels"

# Results of `chalice package`, the newest ones.
PACKAGES = ROOT / ".local" / "packages"
_KEPT = 10

# Chalice of this very interpreter: it decides the Lambda runtime.
CHALICE = [sys.executable, str(Path(sys.executable).with_name("chalice"))]

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Package:
    """What `chalice package` made: the SAM template with the overlay merged in, and the zip."""

    template: Template
    archive: Path


def package(stage: str, out: Path, *, region: str, overlay: Path | None = OVERLAY) -> Package:
    """Run `chalice package` for a stage, with the overlay merged in, or reuse an earlier result.

    Results are kept in `.local/packages`, under a hash of everything they are made from.
    `out` gets sam.yaml, sam.json (the same template) and deployment.zip.

    Raises:
        LocalCloudError: with Chalice's output.
    """
    key = _input_hash(stage, region, overlay)
    out.mkdir(parents=True, exist_ok=True)
    if not _restore(PACKAGES / key, out):
        _build(stage, out, region=region, overlay=overlay)
        # An input may have changed during the build.
        if _input_hash(stage, region, overlay) == key:
            _keep(out, PACKAGES / key)
    return Package(json.loads((out / "sam.json").read_text()), out / "deployment.zip")


def _build(stage: str, out: Path, *, region: str, overlay: Path | None) -> None:
    environ = {**os.environ, "AWS_DEFAULT_REGION": region}
    if WHEELS.is_dir():
        environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    command = [*CHALICE, "package", "--stage", stage, "--template-format", "yaml"]
    command += ["--merge-template", str(overlay)] if overlay else []
    command.append(str(out))
    done = subprocess.run(  # nosec B603 # noqa: S603 - our own interpreter
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalCloudError(f"chalice package failed:\n{done.stdout}{done.stderr}".rstrip())
    template = yaml.safe_load((out / "sam.yaml").read_text())
    (out / "sam.json").write_text(json.dumps(template))


def _input_hash(stage: str, region: str, overlay: Path | None) -> str:
    """A hash of the sources, the lock file, the wheels, the versions and the arguments."""
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


def _restore(kept: Path, out: Path) -> bool:
    try:
        shutil.copytree(kept, out, dirs_exist_ok=True)
    except (OSError, shutil.Error):
        return False  # never built, or removed by another process
    return True


def _keep(out: Path, kept: Path) -> None:
    """Copy a result to its place in one step; another process may do the same."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PACKAGES, prefix="new-") as folder:
        copied = Path(folder) / kept.name
        copied.mkdir()
        for name in ("sam.yaml", "sam.json", "deployment.zip"):
            shutil.copy(out / name, copied)
        with contextlib.suppress(OSError):
            copied.rename(kept)
    with contextlib.suppress(OSError):
        kept_ones = [each for each in PACKAGES.iterdir() if not each.name.startswith("new-")]
        for old in sorted(kept_ones, key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def transform(
    template: Template, *, code: dict[str, str], parameters: dict[str, str], region: str
) -> Template:
    """The template as CloudFormation sees it after the real SAM transform.

    `code` is the S3 location of the zip: `{"Bucket": ..., "Key": ...}`.
    """
    template = json.loads(json.dumps(template))  # the translator changes what it is given
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
    session = boto3.Session(region_name=region)
    translator = Translator({}, Parser(), boto_session=session)
    transformed: Template = translator.translate(template, parameters)
    return transformed


def without_rest_api(template: Template) -> Template:
    """The template less API Gateway, whose SAM form moto does not take.

    `chalice local` serves the API instead.
    """
    resources = template["Resources"]
    gone = {
        name for name, each in resources.items() if each["Type"].startswith("AWS::ApiGateway::")
    }
    kept = {
        name: each
        for name, each in resources.items()
        if name not in gone and not _mentions(each, gone)
    }
    outputs = {
        name: each
        for name, each in template.get("Outputs", {}).items()
        if not _mentions(each, gone)
    }
    return {**template, "Resources": kept, "Outputs": outputs}


def _mentions(value: Any, names: set[str]) -> bool:
    text = json.dumps(value)
    return any(f'"{name}"' in text or f"${{{name}" in text for name in names)
