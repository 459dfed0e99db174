"""The page's files, as the API gives them: known names only, and nothing from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from chalice.test import Client

from chalicelib.api import static_files as assets
from chalicelib.model.errors import UnknownThingError
from tests.conftest import ROOT
from tests.contract.test_app import app_client

FOLDER = ROOT / "chalicelib" / "page"
# What is ours to write; the library is as it was published.
OURS = sorted(
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
        answer = client.http.get(f"/page/{file.name}")
        assert (answer.status_code, answer.body.decode()) == (200, file.read_text()), file
        assert answer.headers["Content-Type"].endswith("; charset=utf-8")


def test_the_page_is_at_the_root(client: Client) -> None:
    answer = client.http.get("/")
    assert answer.body.decode() == (FOLDER / "index.html").read_text()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_file_that_the_browser_has_is_not_sent_again(client: Client) -> None:
    tag = client.http.get("/page/app.js").headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.http.get("/page/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.body) == (304, b"")


def test_another_version_of_it_is_sent(client: Client) -> None:
    answer = client.http.get("/page/app.js", headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


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
def test_a_name_that_is_none_of_them_opens_nothing(name: str) -> None:
    with pytest.raises(UnknownThingError):
        assets.get_file(name)


@pytest.mark.parametrize(
    "name", ["..%2Fapp.py", "%2e%2e", "..%5Capp.py", quote("../errors.py", safe="")]
)
def test_a_way_out_of_the_folder_is_not_found(client: Client, name: str) -> None:
    assert client.http.get(f"/page/{name}").status_code == 404


def test_a_strict_policy_goes_with_every_file(client: Client) -> None:
    for path in ("/", "/page/app.js", "/page/page.css"):
        policy = client.http.get(path).headers["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert {rules["script-src"], rules["style-src"], rules["connect-src"]} == {"'self'"}


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_nothing_is_asked_of_another_host(file: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", file.read_text())
    assert not [each for each in addresses if "w3.org/2000/svg" not in each]


def test_the_policy_has_nothing_to_forbid_in_our_markup() -> None:
    markup = (FOLDER / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", markup)


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_every_file_that_is_named_exists(file: Path) -> None:
    named = re.findall(r"[\"'](?:\./|page/)([\w.-]+\.\w+)[\"']", file.read_text())
    assert set(named) <= assets.names()


def test_modules_are_small() -> None:
    assert {file.name for file in OURS if file.read_text().count("\n") > 400} == set()


def test_the_chart_library_has_its_version_and_its_licence() -> None:
    """As published: https://www.npmjs.com/package/uplot."""
    version = re.search(r"uPlot \(v([\d.]+)\)", (FOLDER / "uplot.min.js").read_text())
    assert version is not None
    assert f"uPlot {version[1]} (MIT)" in (FOLDER / "index.html").read_text()
    assert (FOLDER / "uplot-LICENSE.txt").read_text().startswith("The MIT License (MIT)")


def test_what_is_shown_of_data_is_never_markup() -> None:
    """Names of hosts come from outside."""
    for file in OURS:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", file.read_text()
        ), file
