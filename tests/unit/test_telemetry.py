"""Log lines to stderr and syslog."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pcapdaemon.core.events import Event, RequestRejected
from pcapdaemon.core.node_events import SourceDisconnected
from pcapdaemon.core.request import Problem
from pcapdaemon.telemetry.log import Telemetry
from pcapdaemon.telemetry.output import Syslog


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str], *events: Event) -> list[dict[str, Any]]:
    telemetry = Telemetry(None)
    for event in events:
        telemetry.on_event(event)
    telemetry.stopped()
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_one_line_of_json_per_fact_with_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    problems = (Problem("packets", "too many"), Problem("", "whole"))
    said = lines(capsys, RequestRejected("ID", "redis", problems))
    assert said[0]["event"] == "request rejected"
    assert (said[0]["id"], said[0]["problems"]) == ("ID", ["packets: too many", "whole"])


def test_control_characters_never_reach_the_log_raw(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, RequestRejected("\x1b[31m", "x\n", (Problem("\u202e", "\x9b"),)))
    assert said[0]["id"] == "\\x1b[31m"
    assert said[0]["source"] == "x\\n"
    assert said[0]["problems"] == ["\\u202e: \\x9b"]


def test_syslog_gets_every_line_at_the_configured_priority(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.settimeout(5)
        telemetry = Telemetry(Syslog(priority=25, tag="mine", address=str(tmp_path / "log")))
        telemetry.on_event(SourceDisconnected("redis", "refused"))
        line = server.recv(2000).decode()
    assert line.startswith("<25>mine: ")
    assert "source=redis" in line
    telemetry.stopped()


def test_a_syslog_that_is_not_there_is_said_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Telemetry(Syslog(address=str(tmp_path / "none"))).stopped()
    assert "can't be sent to syslog" in capsys.readouterr().err


def test_nothing_waits_for_a_reader_that_stalls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pcapdaemon.telemetry.log.WAITING_LINES", 5)
    telemetry = Telemetry(None)
    telemetry._listener.stop()  # the reader stalls
    begun = time.monotonic()
    for _ in range(100):
        telemetry.on_event(SourceDisconnected("redis", "refused"))
    assert time.monotonic() - begun < 10
    assert telemetry._handler.dropped == 95
