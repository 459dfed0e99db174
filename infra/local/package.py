"""From the source tree to CloudFormation: `chalice package`, then the SAM transform."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
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

# Chalice of this very interpreter: it decides the Lambda runtime.
CHALICE = [sys.executable, str(Path(sys.executable).with_name("chalice"))]

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Package:
    """What `chalice package` made: the SAM template with the overlay merged in, and the zip."""

    template: Template
    archive: Path


def package(stage: str, out: Path, *, region: str, overlay: Path | None = OVERLAY) -> Package:
    """Run `chalice package` for a stage, merging the overlay in.

    Raises:
        LocalCloudError: with Chalice's own words.
    """
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
    return Package(yaml.safe_load((out / "sam.yaml").read_text()), out / "deployment.zip")


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
