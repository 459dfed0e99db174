"""Reads the results that the ResultWriter of a Distributed Map leaves in the bucket.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
"""

import json
from collections.abc import Callable
from typing import Any


def outputs(manifest: str, read: Callable[[str], bytes]) -> list[dict[str, Any]]:
    """The output of each child execution, or `{status, error, cause}` if it has none.

    `manifest` is the key of the manifest; `read` returns the bytes of an object by key.
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
