"""Boring rules, so that nobody has to remember them: who may import whom, what a file may be."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pcapdaemon"
MODULES = sorted(SOURCE.rglob("*.py"))
NATIVE = sorted((SOURCE / "native").glob("*.p[yx][xd]"))

SMALL = {"core", "privileges", "tasks", "threads", "secrets", "plugins", "files", "filewatch"}
SMALL |= {"sockets", "uptime"}
MAY_IMPORT = {
    "core": set(),
    "threads": set(),
    "tasks": set(),
    "privileges": set(),
    "systemd": set(),
    "files": set(),
    "sockets": set(),
    "uptime": set(),
    "filewatch": set(),
    "tables": {"core"},
    "secrets": {"core"},
    "decode": {"core"},
    "console": {"core", "secrets"},
    "plugins": {"core"},
    "dedupe": {"core", "threads", "uptime"},
    "native": {"core"},
    "savefile": {"core", "decode", "native"},
    "capture": {"core", "native", "savefile", "threads", "uptime"},
    "targets": {"core", "native", "capture", "threads"},
    "destinations": {*SMALL, "savefile"},
    "delivery": {*SMALL, "savefile", "destinations"},
    "sources": SMALL,
    "trust": {*SMALL, "native", "sources"},
    "fleet": {*SMALL, "sources", "console", "trust"},
    "results": {*SMALL, "sources"},
    "audit": {"core", "threads", "sources", "results"},
    "receiving": {"core", "sources", "results"},
    "triggers": {*SMALL, "sources", "dedupe"},
    "telemetry": {"core"},
    "settings": {
        *SMALL,
        "trust",
        "audit",
        "native",
        "capture",
        "delivery",
        "console",
        "results",
        "targets",
        "telemetry",
        "triggers",
    },
    "config": {
        *SMALL,
        "trust",
        "audit",
        "tables",
        "settings",
        "native",
        "capture",
        "destinations",
        "delivery",
        "sources",
        "console",
        "results",
        "targets",
        "telemetry",
        "triggers",
    },
    "around": {"core", "sources", "delivery", "settings"},
    "runs": {
        *SMALL,
        "decode",
        "native",
        "savefile",
        "capture",
        "destinations",
        "delivery",
        "settings",
    },
    "orders": {"core", "runs"},
    "engine": {*SMALL, "around", "orders", "sources", "dedupe", "settings", "runs"},
    "node": {
        *SMALL,
        "native",
        "capture",
        "console",
        "delivery",
        "results",
        "telemetry",
        "settings",
        "runs",
        "engine",
    },
    "api": {
        *SMALL,
        "trust",
        "decode",
        "console",
        "fleet",
        "savefile",
        "results",
        "sources",
        "engine",
        "node",
        "triggers",
    },
    "daemon": {
        *SMALL,
        "dedupe",
        "around",
        "trust",
        "audit",
        "native",
        "savefile",
        "capture",
        "destinations",
        "delivery",
        "sources",
        "results",
        "targets",
        "telemetry",
        "triggers",
        "fleet",
        "systemd",
    }
    | {"settings", "receiving", "runs", "engine", "node", "api"},
    "cli": {
        *SMALL,
        "around",
        "trust",
        "audit",
        "tables",
        "fleet",
        "decode",
        "native",
        "savefile",
        "capture",
        "destinations",
        "delivery",
        "sources",
        "results",
        "targets",
        "triggers",
        "settings",
        "config",
    }
    | {"runs", "engine", "daemon"},
    "__main__": {"cli"},
}
"""The parts of the program, and which others each may import.

A part may name those above it in this table, and no others.
"""

CORE_MAY_LOAD = {"pydantic", "re2", "ulid"}
OUTSIDE = {
    "asyncio",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "logging",
    "pathlib",
    "os",
    "time",
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    if path.suffix != ".py":
        return set(re.findall(r"^from (pcapdaemon[\w.]*) c?import", path.read_text(), re.MULTILINE))
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {node.module}
                if node.module != "pcapdaemon"
                else {f"pcapdaemon.{alias.name}" for alias in node.names}
            )
    return found


def part_of(module: str) -> str:
    """The part of the program that a module belongs to.

    Empty for the package itself and what is foreign.
    """
    names = module.split(".")
    return (
        names[1]
        if names[0] == "pcapdaemon" and len(names) > 1 and names[1] != "__version__"
        else ""
    )


def parts(path: Path) -> set[str]:
    """The other parts of the program that a file imports."""
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    return {part for module in imports(path) if (part := part_of(module))} - {own}


@pytest.mark.parametrize(
    "path", [*MODULES, *NATIVE], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_part_imports_only_what_the_table_allows(path: Path) -> None:
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    assert parts(path) <= MAY_IMPORT.get(own, set()), (
        f"arrows that are not in MAY_IMPORT: {own} -> {parts(path)}"
    )


def test_no_part_depends_on_itself_through_others() -> None:
    order = list(TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError
    assert set(order) == set(MAY_IMPORT)
    there = {path.relative_to(SOURCE).with_suffix("").parts[0] for path in MODULES} - {"__init__"}
    assert there == set(MAY_IMPORT)


def test_folders_are_layers_in_the_order_that_the_architecture_names() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## Folders are layers")[2]
    rows = re.findall(r"^\| (`[^|]*`) \|", table.partition("\n## ")[0], re.MULTILINE)
    row_of = {
        name.removesuffix(".py").rstrip("/"): number
        for number, row in enumerate(rows)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert row_of.keys() == MAY_IMPORT.keys() - {"__main__"}
    for part, others in MAY_IMPORT.items():
        below = {one for one in others if part in row_of and row_of[one] > row_of[part]}
        assert not below, f"{part} may import what is below it in ARCHITECTURE.md: {below}"


def test_no_module_depends_on_itself_through_others() -> None:
    names = {
        f"pcapdaemon.{'.'.join(p.relative_to(SOURCE).with_suffix('').parts)}": p
        for p in MODULES
        if p.stem != "__init__"
    }
    TopologicalSorter(
        {name: imports(path) & names.keys() for name, path in names.items()}
    ).prepare()  # raises CycleError


def test_the_core_is_pure() -> None:
    for path in MODULES:
        if path.parent.name == "core":
            assert not {module.partition(".")[0] for module in imports(path)} & OUTSIDE, path


def test_importing_the_core_loads_little() -> None:
    names = [
        f"pcapdaemon.core.{p.stem}"
        for p in MODULES
        if p.parent.name == "core" and p.stem != "__init__"
    ]
    before = "import pydantic, re2, ulid, sys; before = set(sys.modules)"
    program = f"{before}; import {', '.join(names)}; print(*set(sys.modules) - before)"
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"ssl", "socket", "pathlib", "asyncio"}
    foreign = {
        name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_")
    }
    assert foreign <= CORE_MAY_LOAD | {
        "pcapdaemon",
        "pydantic_core",
        "annotated_types",
        "typing_extensions",
        "typing_inspection",
    }


def test_only_the_native_modules_know_libpcap() -> None:
    for path in [*MODULES, *NATIVE]:
        if path.parent.name != "native":
            assert not re.search(r"\bpcap_", path.read_text().replace("pcap_stats(3pcap)", "")), (
                path
            )


def test_only_the_command_line_prints() -> None:
    printing = {
        path for path in MODULES if re.search(r"^\s*print\(", path.read_text(), re.MULTILINE)
    }
    assert {path.parent.name for path in printing} == {"cli"}


def test_no_file_is_longer_than_a_person_reads() -> None:
    assert [p.name for p in [*MODULES, *NATIVE] if len(p.read_text().split("\n")) > 401] == []


def test_the_short_names_of_the_message_live_in_one_place() -> None:
    for path in MODULES:
        if path.name not in ("request.py", "addressing.py") and path.parent.name != "cli":
            assert not re.search(r"""["'](bpf|nodere|alertid|snap)["']""", path.read_text()), path


@pytest.mark.parametrize("path", NATIVE, ids=lambda path: path.name)
def test_deallocators_use_no_module_of_python(path: Path) -> None:
    """When the interpreter ends, modules are gone before the last objects."""
    pattern = r"(?:def __dealloc__|cdef int give_back)\(self\)[^\n]*\n((?:[ ]{8}.*\n|\n)*)"
    for body in re.findall(pattern, path.read_text()):
        code = re.sub(r"#.*", "", body)
        assert not re.search(r"\b(?:os|time|logging)\.", code), body


AT_ONCE = re.compile(r"(assert|\) =) (len\()?\w+\.log(ged)?\(")


@pytest.mark.parametrize(
    ("line", "races"),
    [
        ('assert daemon.logged("x")', True),
        ('assert len(daemon.logged("x")) == 1', True),
        ('(one,) = daemon.logged("x")', True),
        ('assert not daemon.logged("x")', False),
        ('assert eventually(lambda: daemon.logged("x"))', False),
    ],
)
def test_at_once_means_what_may_not_be_written_yet(line: str, races: bool) -> None:
    assert bool(AT_ONCE.search(line)) == races


def test_tests_wait_for_log_lines() -> None:
    """A thread writes the log, so what a test expects there may come a moment later."""
    racing = [
        f"{path.name}: {line.strip()}"
        for path in sorted((ROOT / "tests").glob("*/test_*.py"))
        for line in path.read_text().splitlines()
        if AT_ONCE.search(line) and path.name != "test_layout.py"
    ]
    assert not racing, "use DaemonProcess.reported, or eventually"
