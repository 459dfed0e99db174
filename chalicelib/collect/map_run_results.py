"""What a Distributed Map's ResultWriter leaves in the bucket.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
"""

import json
from collections.abc import Callable
from typing import Any


def outputs(manifest: str, read: Callable[[str], bytes]) -> list[dict[str, Any]]:
    """The output of each child execution; a child that has none as `{status, error, cause}`.

    `manifest` is the key of the manifest, `read` gives an object's bytes.
    """
    files = json.loads(read(manifest))["ResultFiles"]
    found = []
    for status in ("SUCCEEDED", "FAILED", "PENDING"):
        for file in files.get(status, ()):
            found += [_output(child, status) for child in json.loads(read(file["Key"]))]
    return found


def _output(child: dict[str, Any], status: str) -> dict[str, Any]:
    if status == "SUCCEEDED":
        output: dict[str, Any] = json.loads(child["Output"])
        return output
    return {
        "status": "FAILED",
        "error": child.get("Error", status),
        "cause": child.get("Cause") or f"the execution of the chunk is {status}",
    }
