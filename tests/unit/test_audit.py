"""The audit log: its chain, its files, and what it says."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pcapdaemon.audit import chain
from pcapdaemon.audit.file import AuditFile
from pcapdaemon.audit.log import Audit
from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.events import Event, RequestAccepted, RequestRejected
from pcapdaemon.core.node_events import MessageUntrusted, SavefileFetched
from pcapdaemon.core.request import Problem
from pcapdaemon.sources.base import Message
from tests.helpers import plan_for


def settings(path: Path, **more: Any) -> AuditSettings:
    return AuditSettings.model_validate({"file": str(path), "sync": False, **more})


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def checked(*paths: Path) -> chain.Verified:
    return chain.verify((path.name, lines_of(path)) for path in paths)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_each_line_has_the_hash_of_the_one_before(path: Path) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}, {"event": "b"}])
    file.append([{"event": "c"}])
    found = checked(path)
    assert (found.lines, found.first, found.broken, found.cut) == (3, 1, "", [])
    assert found.chain == file.chain
    assert path.stat().st_mode & 0o777 == 0o600


@given(st.data())
def test_no_change_of_a_line_stays_hidden(data: st.DataObject) -> None:
    made = chain.Chain()
    lines = [made.line({"event": str(n), "id": "x" * n}) for n in range(4)]
    n = data.draw(st.integers(0, 3))
    at = data.draw(st.integers(0, len(lines[n]) - 2))
    changed = bytearray(lines[n])
    changed[at] ^= data.draw(st.integers(1, 255))
    found = chain.verify([("log", [*lines[:n], bytes(changed), *lines[n + 1 :]])])
    assert found.broken or found.cut or found.chain != made


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_line_that_was_removed_or_moved_is_found(n: int) -> None:
    made = chain.Chain()
    lines = [made.line({"event": str(n)}) for n in range(4)]
    without = [*lines[:n], *lines[n + 1 :]]
    found = chain.verify([("log", without)])
    assert found.first == 2 if n == 0 else "log, line" in found.broken
    swapped = [*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]
    assert chain.verify([("log", swapped)]).broken


def test_a_restart_goes_on_with_the_chain(path: Path) -> None:
    for event in ("a", "b"):
        file = AuditFile(path, settings(path))
        file.append([{"event": event}])
        file.close()
    assert checked(path).lines == 2
    assert not checked(path).broken


def test_a_line_that_a_crash_cut_breaks_nothing(path: Path) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}, {"event": "b"}])
    file.close()
    with path.open("ab") as end:
        end.write(b'{"seq":3,"event":"half')
    assert checked(path).cut == ["audit.jsonl, line 3"]
    AuditFile(path, settings(path)).append([{"event": "c"}])
    found = checked(path)
    assert (found.lines, found.broken, found.cut) == (3, "", ["audit.jsonl, line 3"])


@pytest.mark.parametrize("rest", [b'{"se', b"\0" * 500, b'{"seq":3,"ev\0\0\0'])
def test_what_a_crash_may_leave_is_no_break(path: Path, rest: bytes) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}, {"event": "b"}])
    file.close()
    path.write_bytes(path.read_bytes() + rest)
    AuditFile(path, settings(path)).append([{"event": "c"}])
    found = checked(path)
    assert (found.lines, found.broken, found.cut) == (3, "", ["audit.jsonl, line 3"])


@pytest.mark.parametrize("junk", [b"garbage\n", b"\n", b"\x7fELF\0\n", b"garbage", b'{"a":1}\n'])
def test_what_no_crash_leaves_is_reported(path: Path, junk: bytes) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}, {"event": "b"}])
    file.close()
    path.write_bytes(path.read_bytes() + junk)
    assert "line 3: is no line of an audit log" in checked(path).broken


def test_a_full_file_is_moved_away_and_the_chain_goes_on(path: Path) -> None:
    file = AuditFile(path, settings(path, maxbytes=100_000, maxfiles=2))
    for _ in range(5):
        file.append([{"event": "a", "text": "x" * 99_999}])
    older = sorted(path.parent.glob("audit.jsonl.*"))
    assert len(older) == 2
    found = checked(*older, path)
    assert not found.broken
    assert found.chain == file.chain
    first = json.loads(lines_of(path)[0])
    assert (first["event"], first["file"]) == ("continued", older[-1].name)
    assert first["dropped"]


def test_what_can_not_be_written_leaves_no_half_of_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}])
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        real(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.append([{"event": "b"}])
    monkeypatch.undo()
    file.append([{"event": "c"}])
    assert [json.loads(line)["event"] for line in lines_of(path)] == ["a", "c"]
    assert not checked(path).broken


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        AuditFile(path, settings(path)).append([{"event": "a"}])


class Desk:
    """An audit log of a node."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.path, self.events = path, list[Event]()
        self.audit = Audit("web1", self.events.append, lambda _: None)
        self.settings = settings(path, **more)

    async def start(self) -> "Desk":
        await self.audit.configure("web1", self.settings, {"keys": {}})
        return self

    async def end(self) -> list[dict[str, Any]]:
        await self.audit.close(5)
        return [json.loads(line) for line in lines_of(self.path)]


async def test_the_log_says_who_asked_for_what_and_what_was_done(path: Path) -> None:
    desk = await Desk(path).start()
    plan = plan_for("lo", id="r1", packets=5, bpf="port 53")
    assert await desk.audit.permit(plan, Message(b"", "redis", signed_by="SHA256:x")) == ""
    desk.audit.on_event(RequestAccepted("redis", plan, 0.0, requester="oncall", key="SHA256:x"))
    desk.audit.on_event(
        RequestRejected("r2", "redis", (Problem("bpf", "syntax error"),), requester="oncall")
    )
    desk.audit.on_event(SavefileFetched("r1", "a.pcap", "oncall", "127.0.0.1"))
    for _ in range(500):
        desk.audit.on_event(MessageUntrusted("redis", "bad-signature"))
    desk.audit.on_event(
        RequestRejected("r3", "redis", (Problem("jws", "wrong"),), AnswerKind.UNTRUSTED)
    )
    found = await desk.end()
    assert [one["event"] for one in found] == [
        "started",
        "accepted",
        "refused",
        "fetched",
        "untrusted",
        "stopped",
    ]
    _, accepted, refused, fetched, untrusted, _ = found
    assert (accepted["id"], accepted["key"], accepted["node"]) == ("r1", "SHA256:x", "web1")
    assert accepted["asked"]["bpf"] == accepted["granted"]["filter"] == "port 53"
    assert (refused["requester"], refused["problems"]) == ("oncall", ["bpf: syntax error"])
    assert fetched["file_name"] == "a.pcap"
    assert (untrusted["count"], untrusted["reason"]) == (500, "bad-signature")
    assert not checked(path).broken


async def test_without_its_line_nothing_is_captured(path: Path) -> None:
    desk = await Desk(path, required=True).start()
    plan, message = plan_for("lo", id="r1"), Message(b"", "redis")
    assert await desk.audit.permit(plan, message) == ""
    path.rename(path.with_suffix(".away"))
    path.mkdir()  # nothing can be written here
    words = await desk.audit.permit(plan, message)
    assert "can't be written" in words
    assert "[audit] required" in words
    assert desk.audit.problem
    path.rmdir()
    path.with_suffix(".away").rename(path)
    assert await desk.audit.permit(plan_for("lo", id="r3"), message) == ""
    found = await desk.end()
    assert [one.get("id") for one in found if one["event"] == "granted"] == ["r1", "r3"]


async def test_a_log_that_is_off_costs_nothing(path: Path) -> None:
    audit = Audit("web1", list[Event]().append, lambda _: None)
    assert await audit.permit(plan_for("lo"), Message(b"", "redis")) == ""
    audit.on_event(MessageUntrusted("redis", "unsigned"))
    await audit.close(0)
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong", [{"required": True}, {"file": "x"}, {"file": "/x", "bus": "redis"}, {"place": "x"}]
)
def test_settings_that_contradict_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"need|match"):
        AuditSettings.model_validate(wrong)


async def test_an_end_in_the_middle_of_writing_breaks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await Desk(path, sync=True).start()
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        time.sleep(0.2)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    for n in range(5):
        desk.audit.on_event(SavefileFetched(f"r{n}", "a.pcap", "oncall", "127.0.0.1"))
        await asyncio.sleep(0.05)
    found = await desk.end()
    assert [one["id"] for one in found if one["event"] == "fetched"] == [f"r{n}" for n in range(5)]
    assert not checked(path).broken


async def test_whatever_goes_wrong_the_log_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await Desk(path).start()
    real = AuditFile.append
    failures = iter([RuntimeError("can't start new thread"), MemoryError()])

    def sometimes(self: AuditFile, several: Any) -> list[bytes]:
        if (error := next(failures, None)) is not None:
            raise error
        return real(self, several)

    monkeypatch.setattr(AuditFile, "append", sometimes)
    desk.audit.on_event(SavefileFetched("r1", "a.pcap", "oncall", "127.0.0.1"))
    await asyncio.sleep(0.1)
    assert desk.audit.problem
    found = await desk.end()
    assert [one["event"] for one in found] == ["started", "fetched", "stopped"]
    assert not checked(path).broken


async def test_a_log_that_moves_says_so_in_both_files(path: Path) -> None:
    desk = await Desk(path).start()
    other = path.with_name("other.jsonl")
    await desk.audit.configure("web1", settings(other), {"keys": {}})
    desk.audit.on_event(SavefileFetched("r1", "a.pcap", "oncall", "127.0.0.1"))
    await desk.audit.configure("web1", AuditSettings(), {"keys": {}})
    await desk.audit.close(1)
    events = [[json.loads(line)["event"] for line in lines_of(one)] for one in (path, other)]
    assert events == [["started", "moved"], ["started", "fetched", "moved"]]


def test_two_daemons_do_not_share_a_log(path: Path) -> None:
    first = AuditFile(path, settings(path))
    first.append([{"event": "a"}])
    with pytest.raises(OSError, match="another daemon"):
        AuditFile(path, settings(path)).append([{"event": "b"}])
    first.close()
    AuditFile(path, settings(path)).append([{"event": "b"}])
    assert not checked(path).broken


def test_a_log_whose_newest_file_is_missing_goes_on_from_the_one_before(path: Path) -> None:
    file = AuditFile(path, settings(path, maxbytes=100_000))
    for _ in range(3):
        file.append([{"event": "a", "text": "x" * 99_999}])
    file.close()
    path.unlink()  # as after a crash between two files
    again = AuditFile(path, settings(path))
    again.append([{"event": "b"}])
    older = sorted(path.parent.glob("audit.jsonl.*"))
    assert json.loads(lines_of(path)[0])["seq"] > 2
    assert not checked(*older, path).broken


def test_a_crash_while_a_full_file_is_moved_away_breaks_nothing(path: Path) -> None:
    file = AuditFile(path, settings(path, maxbytes=100_000))
    file.append([{"event": "a", "text": "x" * 99_999}])
    older = path.with_name(f"{path.name}.{file.chain.number:012}")
    older.hardlink_to(path)  # as after a crash before the old name was removed
    file.append([{"event": "b"}])
    assert not checked(older, path).broken
    assert [json.loads(line)["event"] for line in lines_of(path)] == ["continued", "b"]


def test_another_file_of_the_next_name_is_kept(path: Path) -> None:
    file = AuditFile(path, settings(path, maxbytes=100_000))
    file.append([{"event": "a", "text": "x" * 99_999}])
    other = path.with_name(f"{path.name}.{file.chain.number:012}")
    other.write_text("not ours")
    with pytest.raises(OSError, match="remove or rename it"):
        file.append([{"event": "b"}])
    assert other.read_text() == "not ours"
    other.unlink()
    file.append([{"event": "b"}])
    assert not checked(other, path).broken


def test_a_line_that_lacks_only_its_end_counts(path: Path) -> None:
    file = AuditFile(path, settings(path))
    file.append([{"event": "a"}, {"event": "b"}])
    file.close()
    path.write_bytes(path.read_bytes()[:-1])
    AuditFile(path, settings(path)).append([{"event": "c"}])
    found = checked(path)
    assert (found.lines, found.broken) == (3, "")


async def test_lines_go_where_requesters_do_not_reach(path: Path) -> None:
    sent: list[tuple[str, bytes]] = []

    class Place:
        async def tell(self, place: str, line: bytes) -> None:
            sent.append((place, line))

    there: Any = Place()
    audit = Audit("web1", list[Event]().append, lambda _: there)
    with capture_logs() as logged:
        await audit.configure("web1", settings(path, log=True, bus="redis", place="audit"), {})
        audit.on_event(SavefileFetched("r1", "a.pcap", "oncall", "127.0.0.1"))
        await audit.close(5)
    written = [line.rstrip(b"\n") for line in lines_of(path)]
    assert [place for place, _ in sent] == ["audit"] * 3
    assert [line.rstrip(b"\n") for _, line in sent] == written
    shown = [one["line"].encode() for one in logged if one["event"] == "audit line"]
    assert shown == written
    assert logged[-1]["hash"] == chain.digest(written[-1])
