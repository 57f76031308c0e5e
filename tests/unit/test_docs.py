"""The documents are correct."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from pcapdaemon import config, tables
from pcapdaemon.core.request import validate
from scripts import generate_docs

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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_of_messages_and_configurations_are_valid(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("token", "kafka", "redis"):
        (tmp_path / name).write_text("a-long-token")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for language, text in re.findall(r"```(json|toml)\n(.*?)```", path.read_text(), re.DOTALL):
        if language == "json":
            fields = json.loads(text)
            assert "node" not in fields or validate(fields)[1] == []
        else:
            settings = config.validate(tables._lower(tomllib.loads(text), "example"))
            assert not settings.warnings
