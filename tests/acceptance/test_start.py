"""A command imports only what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.captures import pcap

WEB = {"fastapi", "starlette", "uvicorn"}
CLIENTS = {"boto3", "botocore", "confluent_kafka", "redis"}
PROGRAM = """
import sys
from pcapdaemon.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded", *{name.partition(".")[0] for name in sys.modules}, *sys.modules)
"""


def loaded(*words: str) -> set[str]:
    """Return the modules that a command imports."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True
    )
    return set(run.stdout.splitlines()[-1].split()[1:])


def test_the_version_loads_nothing_of_the_program_but_the_command_line() -> None:
    modules = loaded("--version")
    ours = {name for name in modules if name.startswith("pcapdaemon.")}
    assert {name.split(".")[1] for name in ours} <= {"cli", "core", "native"}, ours
    assert not modules & (WEB | CLIENTS | {"rich", "prometheus_client", "structlog", "httpx2"})


def test_a_capture_loads_no_web_framework(tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(pcap([(0, 3)]))
    modules = loaded("capture", "--read", str(tmp_path / "x.pcap"), "-w", str(tmp_path / "y.pcap"))
    assert (tmp_path / "y.pcap").exists()
    assert not modules & (WEB | CLIENTS | {"prometheus_client"})


@pytest.mark.parametrize(
    "command", ["run", "capture", "check", "interfaces", "request", "recorders", "spool", "sources"]
)
def test_help_needs_no_more_than_the_version(command: str) -> None:
    assert not loaded(command, "--help") & (WEB | CLIENTS | {"pcapdaemon.config"})
