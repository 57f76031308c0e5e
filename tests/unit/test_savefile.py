"""A savefile in memory reads like a file."""

import io
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.savefile.savefile import Savefile
from tests.helpers import savefile_of

PARTS = st.lists(st.binary(max_size=40), max_size=30)


def made(parts: list[bytes]) -> Savefile:
    return savefile_of(*parts)


@given(PARTS, st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 50)), max_size=10))
def test_reads_as_a_file_of_the_same_bytes(
    parts: list[bytes], steps: list[tuple[int, int]]
) -> None:
    ours, theirs = made(parts), io.BytesIO(b"".join(parts))
    assert ours.size == len(theirs.getvalue())
    for position, size in steps:
        assert ours.seek(position) == theirs.seek(position)
        assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()
    assert ours.seek(0, os.SEEK_END) == theirs.seek(0, os.SEEK_END)
    assert ours.reader().read() == theirs.getvalue()


@given(PARTS, st.integers(0, 100), st.none() | st.integers(0, 100))
def test_views_are_the_bytes_without_a_copy(
    parts: list[bytes], start: int, size: int | None
) -> None:
    whole = b"".join(parts)
    assert b"".join(made(parts).views(start, size)) == (
        whole[start:] if size is None else whole[start : start + size]
    )


def test_written_whole_though_a_call_takes_part_of_it(tmp_path: Path) -> None:
    parts = [bytes([n % 256]) * 100 for n in range(1500)]
    with (tmp_path / "x").open("wb") as file:
        made(parts).write_to(file.fileno())
    assert (tmp_path / "x").read_bytes() == b"".join(parts)


def test_written_whole_into_a_pipe_that_is_read_slowly() -> None:
    import threading

    reading, writing = os.pipe()
    savefile = made([os.urandom(1 << 20) for _ in range(3)])

    def write() -> None:
        savefile.write_to(writing)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == savefile.read()
    thread.join()


def test_closing_lets_the_memory_go_and_leaves_readers_alone() -> None:
    savefile = made([b"abc"])
    reader = savefile.reader()
    savefile.close()
    assert savefile.closed
    assert reader.read() == b"abc"
