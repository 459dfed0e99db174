"""The page's files as the API serves them: only known names, and no other hosts."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from chalice.test import Client

from chalicelib.api import static_files
from chalicelib.model.errors import UnknownThingError
from tests.conftest import ROOT
from tests.contract.test_app import app_client

FOLDER = ROOT / "chalicelib" / "page"
# Our own files; the chart library is unmodified.
OWN_FILES = sorted(
    file
    for file in FOLDER.iterdir()
    if file.suffix in {".html", ".js", ".css"} and "uplot" not in file.name
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with app_client(tmp_path) as client:
        yield client


def test_every_file_is_served_with_its_type(client: Client) -> None:
    for file in FOLDER.iterdir():
        response = client.http.get(f"/page/{file.name}")
        assert (response.status_code, response.body.decode()) == (200, file.read_text()), file
        assert response.headers["Content-Type"].endswith("; charset=utf-8")


def test_the_page_is_at_the_root(client: Client) -> None:
    response = client.http.get("/")
    assert response.body.decode() == (FOLDER / "index.html").read_text()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_cached_file_is_not_sent_again(client: Client) -> None:
    tag = client.http.get("/page/app.js").headers["ETag"]
    for tags in (tag, f"W/{tag}", f'"other", {tag}'):
        response = client.http.get("/page/app.js", headers={"If-None-Match": tags})
        assert (response.status_code, response.body) == (304, b"")


def test_a_changed_file_is_sent(client: Client) -> None:
    response = client.http.get("/page/app.js", headers={"If-None-Match": '"other"'})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "..",
        ".",
        "../../etc/passwd",
        "/etc/passwd",
        "..\\app.py",
        "%2e%2e%2fapp.py",
        "app.js\0",
        "app.js/",
        "APP.JS",
        "",
        "__init__.py",
    ],
)
def test_an_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(UnknownThingError):
        static_files.get_file(name)


@pytest.mark.parametrize(
    "name", ["..%2Fapp.py", "%2e%2e", "..%5Capp.py", quote("../errors.py", safe="")]
)
def test_a_path_outside_the_folder_is_not_found(client: Client, name: str) -> None:
    assert client.http.get(f"/page/{name}").status_code == 404


def test_every_file_has_a_strict_content_security_policy(client: Client) -> None:
    for path in ("/", "/page/app.js", "/page/page.css"):
        policy = client.http.get(path).headers["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert {rules["script-src"], rules["style-src"], rules["connect-src"]} == {"'self'"}


@pytest.mark.parametrize("file", OWN_FILES, ids=lambda file: file.name)
def test_no_file_refers_to_another_host(file: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", file.read_text())
    assert not [each for each in addresses if "w3.org/2000/svg" not in each]


def test_the_markup_has_no_inline_styles_or_scripts() -> None:
    markup = (FOLDER / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", markup)


@pytest.mark.parametrize("file", OWN_FILES, ids=lambda file: file.name)
def test_every_referenced_file_exists(file: Path) -> None:
    references = re.findall(r"[\"'](?:\./|page/)([\w.-]+\.\w+)[\"']", file.read_text())
    assert set(references) <= static_files.names()


def test_files_have_at_most_400_lines() -> None:
    assert {file.name for file in OWN_FILES if file.read_text().count("\n") > 400} == set()


def test_the_chart_library_has_its_version_and_licence() -> None:
    """As published at https://www.npmjs.com/package/uplot."""
    version = re.search(r"uPlot \(v([\d.]+)\)", (FOLDER / "uplot.min.js").read_text())
    assert version is not None
    assert f"uPlot {version[1]} (MIT)" in (FOLDER / "index.html").read_text()
    assert (FOLDER / "uplot-LICENSE.txt").read_text().startswith("The MIT License (MIT)")


def test_no_file_inserts_data_as_markup() -> None:
    """Host names are untrusted input."""
    for file in OWN_FILES:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", file.read_text()
        ), file
