"""Accepted requests are remembered: at once, across a restart, and within limits."""

import asyncio
import json
import resource
from pathlib import Path

import pytest
import structlog

from pcapdaemon import dedupe
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.dedupe import ACCEPTED, Dedupe

ANSWER = Answer("one", AnswerKind.ACCEPTED, interfaces=("eth0",))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def accept(known: Dedupe, key: str, answer: Answer = ANSWER) -> None:
    assert await known.claim(key, 60) is None
    await known.decide(key, answer)


async def test_the_second_of_a_key_gets_the_firsts_answer() -> None:
    known = Dedupe(None)
    await accept(known, "id one")
    assert await known.claim("id one", 60) == ANSWER
    assert await known.claim("id two", 60) is None


async def test_the_second_waits_while_the_first_is_decided() -> None:
    known = Dedupe(None)
    assert await known.claim("k", 60) is None
    second = asyncio.create_task(known.claim("k", 60))
    await asyncio.sleep(0)
    assert not second.done()
    await known.decide("k", ANSWER)
    assert await second == ANSWER


async def test_when_the_first_is_refused_the_second_is_the_first() -> None:
    known = Dedupe(None)
    assert await known.claim("k", 60) is None
    waiting = [asyncio.create_task(known.claim("k", 60)) for _ in range(2)]
    await asyncio.sleep(0)
    await known.decide("k", None)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False], "only one of them"
    await known.decide("k", ANSWER)
    assert [await task for task in waiting] == [None, ANSWER]


async def test_after_a_while_it_is_forgotten() -> None:
    clock = Clock()
    known = Dedupe(None, clock)
    await accept(known, "k")
    clock.now += 59
    assert await known.claim("k", 60) == ANSWER
    clock.now += 2
    assert await known.claim("k", 60) is None


async def test_a_restart_does_not_forget(tmp_path: Path) -> None:
    clock = Clock()
    await accept(Dedupe(tmp_path / "state", clock), "k")
    assert await Dedupe(tmp_path / "state", clock).claim("k", 60) == ANSWER
    assert (tmp_path / "state" / ACCEPTED).stat().st_mode & 0o077 == 0


async def test_what_was_not_to_be_kept_is_forgotten_at_a_restart_until_it_is_kept(
    tmp_path: Path,
) -> None:
    known = Dedupe(tmp_path)
    assert await known.claim("k", 60) is None
    await known.decide("k", ANSWER, keep=False)
    assert await known.claim("k", 60) == ANSWER
    assert await Dedupe(tmp_path).claim("k", 60) is None
    await known.keep("k")
    assert await Dedupe(tmp_path).claim("k", 60) == ANSWER


async def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    await accept(Dedupe(tmp_path), "k")
    with (tmp_path / ACCEPTED).open("ab") as file:
        file.write(b"[" * 100_000 + b"\n")
        file.write(b'{"key": "y", "id": "y", "interfaces": [], "at": %s}\n' % (b"9" * 400))
        file.write(b'\xff\n[1]\n{"key": "x"}\n{"key": "torn", "at": 1')
    assert await Dedupe(tmp_path).claim("k", 60) == ANSWER
    assert await Dedupe(tmp_path).claim("torn", 60) is None


async def test_a_line_after_a_torn_one_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / ACCEPTED).write_text('{"key": "torn", "at": 1')
    await accept(Dedupe(tmp_path), "k")
    assert await Dedupe(tmp_path).claim("k", 60) == ANSWER


async def test_what_is_not_to_be_kept_yet_is_not_kept_when_the_file_is_written_again(
    tmp_path: Path,
) -> None:
    (tmp_path / ACCEPTED).write_text('{"key": "torn", "at": 1')
    known = Dedupe(tmp_path)
    assert await known.claim("later", 60) is None
    await known.decide("later", ANSWER, keep=False)
    await accept(known, "k")
    again = Dedupe(tmp_path)
    assert await again.claim("k", 60) == ANSWER
    assert await again.claim("later", 60) is None


async def test_a_line_that_the_disk_had_room_for_in_part_spoils_no_other(tmp_path: Path) -> None:
    known = Dedupe(tmp_path)
    await accept(known, "first")
    size = (tmp_path / ACCEPTED).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with structlog.testing.capture_logs():  # what captures output writes to a file, too
            await accept(known, "partial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / ACCEPTED).stat().st_size == size + 10
    await accept(known, "last")
    again = Dedupe(tmp_path)
    for key in ("first", "partial", "last"):
        assert await again.claim(key, 60) == ANSWER, key


async def test_many_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "MOST", 50)
    known = Dedupe(tmp_path)
    for start in range(0, 300, 50):
        keys = [f"k{number}" for number in range(start, start + 50)]
        await asyncio.gather(*(accept(known, key) for key in keys))
        again = Dedupe(tmp_path)
        for key in keys:
            assert await again.claim(key, 60) == ANSWER


async def test_memory_and_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "MOST", 10)
    known = Dedupe(tmp_path)
    for number in range(100):
        await accept(known, f"k{number}")
    assert len(known._known) <= 10
    lines = (tmp_path / ACCEPTED).read_text().splitlines()
    assert len(lines) <= 31
    assert json.loads(lines[-1])["key"] == "k99"
    again = Dedupe(tmp_path)
    assert await again.claim("k99", 60) == ANSWER
    assert await again.claim("k50", 60) is None


async def test_a_directory_that_cannot_be_written_to_costs_only_the_memory_of_a_restart(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    known = Dedupe(tmp_path / "file" / "below")
    await accept(known, "k")
    assert await known.claim("k", 60) == ANSWER
