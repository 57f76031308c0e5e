"""A new bus or store needs only one file, one line in a table and one harness.

The examples consist of exactly that.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon import config, destinations, sources
from pcapdaemon.plugins import Plugin
from scripts import generate_docs
from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, numbers

ROOT = Path(__file__).parents[2]
LINES = {
    "sources": (
        "folder",
        'Plugin("tests.examples.folder_bus:FolderBus", "folder", "listen", is_bus=True)',
    ),
    "destinations": ("drawer", 'Plugin("tests.examples.drawer:Drawer", "drawer", "store")'),
}
"""The lines for the tables in `sources/__init__.py` and `destinations/__init__.py`."""

PROGRAM = (
    "from pcapdaemon import sources, destinations\nfrom pcapdaemon.plugins import Plugin\n"
    + "".join(f"{table}.TABLE[{name!r}] = {line}\n" for table, (name, line) in LINES.items())
)


@pytest.fixture
def tables() -> Iterator[None]:
    """Add one line to each of the two tables."""
    before = dict(sources.TABLE), dict(destinations.TABLE)
    exec(PROGRAM, {"Plugin": Plugin})
    yield
    for table, lines in zip((sources.TABLE, destinations.TABLE), before, strict=True):
        table.clear()
        table.update(lines)


def sections(tmp_path: Path) -> dict[str, dict[str, Any]]:
    for name in ("requests", "results", "drawer"):
        (tmp_path / name).mkdir(exist_ok=True)
    return {
        "folder": {
            "listen": True,
            "path": str(tmp_path / "requests"),
            "results": str(tmp_path / "results"),
        },
        "drawer": {"store": True, "path": str(tmp_path / "drawer")},
    }


@pytest.mark.usefixtures("tables")
def test_the_configuration_knows_them(tmp_path: Path) -> None:
    settings = config.validate(sections(tmp_path), "x.toml")
    assert settings.sources.keys() == {"folder"}
    assert settings.destinations.keys() == {"drawer"}
    assert "folder may redeliver a request" in settings.warnings[0]
    with pytest.raises(Exception, match=r"\[folder\] path"):
        config.validate({**sections(tmp_path), "folder": {"listen": True}})


@pytest.mark.usefixtures("tables")
def test_the_documents_describe_them() -> None:
    page = generate_docs.configuration()
    assert "## `[folder]`" in page
    assert "## `[drawer]`" in page
    assert "The directory with a file for each message." in page


@pytest.mark.usefixtures("tables")
def test_requests_can_be_sent_over_it(tmp_path: Path) -> None:
    assert "folder" in sources.buses()
    assert config.bus("folder", sections(tmp_path), "x.toml").address == str(tmp_path / "requests")


def test_nothing_else_names_them() -> None:
    pattern = re.compile(r"\b(drawer|Drawer|FolderBus|folder_bus)\b")
    assert [path for path in (ROOT / "src").rglob("*.py") if pattern.search(path.read_text())] == []


def test_a_whole_daemon_with_both(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make(sections(tmp_path), env={**os.environ, "PYTHONPATH": str(ROOT)})
    program = [sys.executable, "-c", f"{PROGRAM}from pcapdaemon.cli.main import main\nmain()"]
    words = ["--config", str(daemon.config)]
    daemon.start([*program[1:], "run", *words], program=program[0])
    request = {"node": "any", "interface": [wire.far], "id": "one", "packets": 20, "folder": "x"}
    command = [*program, "request", "--via", "folder", *words, "--message", "-", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as sent:
        assert sent.stdin
        assert sent.stdout
        sent.stdin.write(json.dumps(request).encode())
        sent.stdin.close()
        eventually(lambda: daemon.logged("capture started", id="one"))
        wire.send(20)
        (record,) = json.loads(sent.stdout.read())
    assert sent.returncode == 0
    (capture,) = record["captures"]
    assert capture["delivered"].keys() == {"local", "drawer"}
    assert numbers(Path(capture["delivered"]["drawer"]["where"])) == list(range(20))
    assert list((tmp_path / "requests").iterdir()) == [], "it was settled"
    assert daemon.stop() == 0
