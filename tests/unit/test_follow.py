"""Following a file: nothing is lost and nothing comes twice, however it is written and rotated."""

import asyncio
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.triggers.alert import MAX_ALERTS
from pcapdaemon.triggers.follow import FileSource, Follower
from pcapdaemon.triggers.settings import TriggerSettings
from tests.helpers import eventually


def begun(path: Path, **more: Any) -> Follower:
    follower = Follower(str(path), **more)
    follower.begin()
    return follower


def lines(follower: Follower) -> list[bytes]:
    """Return all lines that are there now."""
    found: list[bytes] = []
    quiet = 0
    while quiet < 3:  # a rotation needs more than one look
        more = follower.read()
        quiet = quiet + 1 if more is None else 0
        found += [line for line, _ in more or ()]
    return found


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_begins_at_the_end_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "old\nhalf")
    follower = begun(path)
    assert lines(follower) == []
    add(path, " line\nnew\nto")
    assert lines(follower) == [b" line", b"new"]
    add(path, "rn\n")
    assert lines(follower) == [b"torn"]


def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = begun(path)
    assert lines(follower) == []
    add(path, "first\n")
    assert lines(follower) == [b"first"]
    with pytest.raises(FileNotFoundError):
        begun(tmp_path / "none" / "log")


@pytest.mark.parametrize("again", [False, True])
def test_a_rotation_with_a_writer_that_is_late(tmp_path: Path, again: bool) -> None:
    path = tmp_path / "log"
    add(path, "")
    follower = begun(path)
    with path.open("a") as late:
        late.write("a\n")
        late.flush()
        path.rename(tmp_path / "log.1")
        add(path, "c\n")
        if again:
            assert lines(follower) == [b"a", b"c"]
        late.write("b\n")
        late.flush()
        assert sorted(lines(follower)) == ([b"b"] if again else [b"a", b"b", b"c"])


def test_a_file_that_was_truncated_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "a\nb\n")
    follower = begun(path)
    os.truncate(path, 0)
    add(path, "c\n")
    assert lines(follower) == [b"c"]


def test_the_last_line_of_a_file_that_is_left_needs_no_newline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcapdaemon.triggers.follow.LEAVING", 0.0)
    path = tmp_path / "log"
    add(path, "")
    follower = begun(path)
    add(path, "end")
    path.rename(tmp_path / "log.1")
    add(path, "new\n")
    assert sorted(lines(follower)) == [b"end", b"new"]


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "")
    follower = begun(path)
    add(path, "x" * (3 * MAX_ALERTS))
    assert lines(follower) == []
    add(path, "x\nnext\n")
    assert lines(follower) == [b"next"]


def test_a_pattern_of_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log-2026").touch()
    year = "2026"
    monkeypatch.setattr(
        "pcapdaemon.triggers.follow.time.strftime", lambda path: path.replace("%Y", year)
    )
    follower = begun(tmp_path / "log-%Y")
    add(tmp_path / "log-2026", "a\n")
    assert lines(follower) == [b"a"]
    year = "2027"
    assert lines(follower) == []
    add(tmp_path / "log-2026", "b\n")
    add(tmp_path / "log-2027", "c\n")
    assert lines(follower) == [b"b", b"c"]


def test_it_goes_on_where_it_was_though_the_file_was_renamed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "")
    follower = begun(path)
    add(path, "a\n")
    assert lines(follower) == [b"a"]
    position = follower.position
    follower.close()
    add(path, "b\n")
    path.rename(tmp_path / "log.1")
    add(path, "c\n")
    assert lines(begun(path, start=position)) == [b"b", b"c"]
    (tmp_path / "log.1").unlink()
    assert lines(begun(path, start=position)) == [b"c"]


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        begun(path)


@given(st.integers(0, 2**32))
def test_many_lines_torn_writes_and_rotations_in_order(seed: int) -> None:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        add(path, "")
        follower, found = begun(path), []
        written = [b"%d" % number for number in range(300)]
        text, at, rotations = b"\n".join(written) + b"\n", 0, 0
        file = path.open("ab", buffering=0)
        while at < len(text):
            size = dice.randrange(1, 60)
            file.write(text[at : at + size])
            at += size
            if dice.random() < 0.4:
                found += [line for line, _ in follower.read() or ()]
            if dice.random() < 0.1 and text[at - 1 : at] == b"\n":
                found += lines(follower)
                rotations += 1
                path.rename(Path(directory) / f"log.{rotations}")
                file.close()
                file = path.open("ab", buffering=0)
        file.close()
        assert found + lines(follower) == written
        follower.close()


def source(path: Path, directory: Path) -> FileSource:
    settings = TriggerSettings.model_validate(
        {"name": "x", "kind": "json", "file": str(path), "request": {"interface": "eth0"}}
    )
    return FileSource(settings, "node", lambda line: b"no" not in line, directory)


async def test_only_what_is_done_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "")
    one = source(path, tmp_path / "state")
    await one.connect()
    add(path, "no\na\nno\nb\nc\n")
    assert [(await one.receive()).body for _ in range(2)] == [b"a", b"b"]
    await one.close()  # b was not done: nobody asked for the next one
    two = source(path, tmp_path / "state")
    await two.connect()
    assert [(await two.receive()).body for _ in range(2)] == [b"b", b"c"]
    waiting = asyncio.create_task(two.receive())
    note = tmp_path / "state" / "trigger-x.json"
    await asyncio.to_thread(
        eventually, lambda: f'"offset": {path.stat().st_size}' in note.read_text()
    )
    waiting.cancel()
    await two.close()
    add(path, "d\n")
    three = source(path, tmp_path / "state")
    await three.connect()
    assert (await three.receive()).body == b"d"
    await three.close()


async def test_closing_closes_the_file_whatever_it_does(tmp_path: Path) -> None:
    path = tmp_path / "log"
    add(path, "")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        one = source(path, tmp_path)
        await one.connect()
        add(path, f"a{number}\nb{number}\n")
        await one.receive()
        await one.close()
    waiting = source(path, tmp_path)
    await waiting.connect()
    task = asyncio.create_task(waiting.receive())
    await asyncio.sleep(0)
    task.cancel()
    await waiting.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_position_is_of_its_own_file(tmp_path: Path) -> None:
    for name in ("log", "other"):
        add(tmp_path / name, "old\n")
    one = source(tmp_path / "log", tmp_path)
    await one.connect()
    add(tmp_path / "log", "a\n")
    assert (await one.receive()).body == b"a"
    await one.close()
    two = source(tmp_path / "other", tmp_path)
    await two.connect()
    add(tmp_path / "other", "b\n")
    assert (await two.receive()).body == b"b"
    await two.close()


def test_a_link_into_another_directory_is_followed_over_restarts(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    link, file = tmp_path / "log", tmp_path / "day" / "log"
    add(file, "old\n")
    link.symlink_to(file)
    follower = begun(link)
    add(file, "a\n")
    assert lines(follower) == [b"a"]
    position = follower.position
    follower.close()
    add(file, "b\n")
    assert lines(begun(link, start=position)) == [b"b"]


async def test_a_directory_that_is_missing_is_reported(tmp_path: Path) -> None:
    one = source(tmp_path / "none" / "log", tmp_path)
    with pytest.raises(NotConnected, match="No such file"):
        await one.connect()
    await one.close()


async def test_a_note_that_is_not_one_is_ignored(tmp_path: Path) -> None:
    own = f'{{"file": "{source(tmp_path / "log", tmp_path).address}", "device": '
    for text in ("", "{}", "[]", '{"file": 1, "device": "x"}', own + "1e999}", "[" * 100_000):
        (tmp_path / "trigger-x.json").write_text(text)
        one = source(tmp_path / "log", tmp_path)
        await one.connect()
        await one.close()
