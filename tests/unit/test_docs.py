"""The documents are correct."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from pcapdaemon import config, tables
from pcapdaemon.core.request import validate
from scripts import generate_docs
from tests.helpers import certificates

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]


@pytest.mark.parametrize(
    ("path", "text"),
    list(generate_docs.pages().items()),
    ids=lambda value: getattr(value, "name", ""),
)
def test_generated_pages_are_those_of_the_models(path: Path, text: str) -> None:
    assert path.read_text() == text, "run .venv/bin/python -m scripts.generate_docs"


def test_every_field_and_key_is_described() -> None:
    assert "| None |" not in "".join(generate_docs.pages().values())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def passed() -> set[str]:
    """Return the names of the secrets that the unit passes."""
    unit = (ROOT / "packaging" / "pcapdaemon.service").read_text()
    pairs = re.findall(r"^LoadCredential=(.+):(.+)$", unit, re.MULTILINE)
    # a path that is not absolute may be missing (systemd.exec(5))
    assert all(file == f"pcapdaemon.{name}" for name, file in pairs)
    return {name for name, _ in pairs}


def test_the_unit_passes_every_secret_that_the_documents_name() -> None:
    pages = [*PAGES, ROOT / "packaging" / "pcapdaemon.toml"]
    named = re.findall(
        r"\$CREDENTIALS_DIRECTORY/([a-z0-9.]*[a-z0-9])", "".join(p.read_text() for p in pages)
    )
    assert set(named) <= passed()
    listed = re.search(
        r"The unit passes (.*), as far", (ROOT / "docs/how-to/production.md").read_text()
    )
    assert listed
    assert set(re.findall(r"`(.*?)`", listed[1])) == passed()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_of_messages_and_configurations_are_valid(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in passed():
        (tmp_path / name).write_text("a-long-token")
    if "server.pem" in path.read_text():
        certificates(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for language, text in re.findall(r"```(json|toml)\n(.*?)```", path.read_text(), re.DOTALL):
        if language == "json":
            fields = json.loads(text)
            profile = {"interface": ["eth0"]} if "profile" in fields else {}
            assert "node" not in fields or validate({**profile, **fields})[1] == []
        else:
            settings = config.validate(tables._lower(tomllib.loads(text), "example"))
            assert not settings.warnings


@pytest.mark.parametrize("all_of_it", [False, True])
def test_the_example_configuration_is_valid_as_it_is_and_with_everything_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_of_it: bool
) -> None:
    text = (ROOT / "packaging" / "pcapdaemon.toml").read_text()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in re.findall(r'_file = "(.*)"', text):
        (tmp_path / Path(name).name).write_text("a-long-token")
    text = text.replace("/etc/pcapdaemon/", f"{tmp_path}/")
    if all_of_it:
        text = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
        text = text.replace('host = "0.0.0.0"\n', 'host = "127.0.0.1"\n')
    settings = config.validate(tables._lower(tomllib.loads(text), "example"))
    assert not settings.warnings
    assert len(settings.sources) == (4 if all_of_it else 1)
    assert len(settings.destinations) == (3 if all_of_it else 1)


def test_the_source_distribution_has_what_a_build_needs(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats=tar", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar"))) as made:
        there = {name.partition("/")[2] for name in made.getnames()}
    native = {str(one.relative_to(ROOT)) for one in ROOT.glob("src/pcapdaemon/native/*.p[yx][xdi]")}
    assert native
    assert native | {"setup.py", "pyproject.toml", "LICENSE"} <= there
