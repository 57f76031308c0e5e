"""Boring rules, so that nobody has to remember them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pcapdaemon"
MODULES = sorted(SOURCE.rglob("*.py"))
PURE = {"limits", "request", "plan", "events", "text", "legacy", "policy", "nodes", "orders", "answers", "outcome"}
IMPURE = {"asyncio", "socket", "subprocess", "threading", "logging", "pathlib", "os", "time", "uvicorn", "fastapi", "redis"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_pure_core_does_no_input_or_output(name: str) -> None:
    assert not {module.partition(".")[0] for module in imports(SOURCE / f"{name}.py")} & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_daemon_and_the_command_line_see_all_parts(path: Path) -> None:
    name = path.relative_to(SOURCE).with_suffix("").as_posix()
    seen = imports(path)
    if name not in ("cli", "now", "check", "__main__"):
        assert "pcapdaemon.daemon" not in seen
    if name.startswith(("sources/", "destinations/", "capture/")):
        assert not seen & {"pcapdaemon.engine", "pcapdaemon.api", "pcapdaemon.config", "pcapdaemon.delivery"}


def test_only_the_loop_knows_libpcap() -> None:
    for path in SOURCE.rglob("*.py*"):
        if path.suffix in (".py", ".pyx") and "pcap_" in path.read_text():
            assert path.name in ("_filter.pyx", "_handle.pyx", "_loop.pyx", "_native.pyx", "_recorder.pyx", "cli.py"), path


def test_only_the_command_line_prints() -> None:
    assert [path.name for path in MODULES if re.search(r"^\s*print\(", path.read_text(), re.MULTILINE)] == [
        "cli.py",
        "cli_recorders.py",
        "cli_spool.py",
        "show.py",
    ]


def test_no_file_is_longer_than_a_person_reads() -> None:
    assert [
        p.name for p in SOURCE.rglob("*") if p.suffix in (".py", ".pyx", ".pxd") and len(p.read_text().split("\n")) > 401
    ] == []


def test_the_short_names_of_the_message_live_in_one_place() -> None:
    for path in MODULES:
        if path.name not in ("request.py", "cli.py", "legacy.py"):
            assert not re.search(r"""["'](bpf|nodere|alertid|snap)["']""", path.read_text()), path
