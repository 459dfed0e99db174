"""Every template as it is deployed, for the checks."""

import json
from pathlib import Path

from ..local.clients import REGION
from ..local.package import MAINTENANCE, OBSERVABILITY, QUERIES, STORAGE, package, transform

STANDALONE = (STORAGE, QUERIES, MAINTENANCE, OBSERVABILITY)


def build_app_template(stage: str, folder: Path) -> tuple[Path, Path]:
    """The packaged template with the overlay merged in, and the output of its SAM transform."""
    template = package(stage, folder, region=REGION).template
    code = {"Bucket": "artifacts", "Key": "deployment.zip"}
    transformed = transform(template, code=code, parameters={"Suffix": ""}, region=REGION)
    (folder / "transformed.json").write_text(json.dumps(transformed))
    return folder / "sam.yaml", folder / "transformed.json"
