"""`python -m infra lint`: run cfn-lint on every template."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .templates import STANDALONE, build_app_template

CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Package a stage and run cfn-lint on every standalone template, on the app's template"
        " with the overlay merged in, and on the output of the SAM transform."
    )
    parser.add_argument("--stage", default="prod", help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Run cfn-lint and return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        templates = [*STANDALONE, *build_app_template(options.stage, Path(folder))]
        return subprocess.run(  # nosec B603 # noqa: S603 - our own interpreter
            [sys.executable, "-c", CFN_LINT, *map(str, templates)], check=False
        ).returncode
