"""Files with secrets and certificates: each change is noticed once, and only when it is at rest."""

from pathlib import Path

import pytest

from pcapdaemon.filewatch import Files, FileWatch, differing, files_in, identity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first")
    return path


def watching(file: Path) -> FileWatch:
    return FileWatch({"http": {str(file): identity(str(file))}, "redis": {}})


def test_a_change_is_reported_once_and_after_it_is_at_rest(file: Path) -> None:
    watch = watching(file)
    assert [watch.changed() for _ in range(3)] == [set()] * 3
    file.write_text("second one")
    assert [watch.changed() for _ in range(4)] == [set(), {"http"}, set(), set()]


def test_a_file_that_is_still_being_written_is_not_reported(file: Path) -> None:
    watch = watching(file)
    for length in range(1, 5):
        file.write_text("x" * (10 + length))
        assert watch.changed() == set()
    assert watch.changed() == {"http"}


def test_a_file_that_is_missing_is_awaited(file: Path) -> None:
    watch = watching(file)
    file.unlink()
    assert [watch.changed() for _ in range(3)] == [set()] * 3
    file.write_text("first again")
    assert [watch.changed() for _ in range(3)] == [set(), {"http"}, set()]


def test_what_could_not_be_applied_is_reported_again(file: Path) -> None:
    watch = watching(file)
    watch.changed()
    watch.report_again({"http", "unknown"})
    assert watch.changed() == {"http"}
    assert watch.changed() == set()


def test_a_link_that_leads_elsewhere_is_a_change(file: Path, tmp_path: Path) -> None:
    """As secrets in Kubernetes are replaced."""
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(file)
    watch = watching(link)
    other.write_text("first")
    link.unlink()
    link.symlink_to(other)
    assert [watch.changed() for _ in range(2)] == [set(), {"http"}]


def test_which_keys_name_files() -> None:
    values = {
        "token_file": "/a",
        "ca_file": "/b",
        "token": "secret",
        "client": {"ssl.ca.location": "/c", "sasl.password_file": "/d", "group.id": "x"},
        "number_file": 7,
    }
    assert list(files_in(values)) == ["/a", "/b", "/c", "/d"]
    assert list(files_in("no table")) == []


def test_sections_whose_files_are_others_than_before() -> None:
    before: Files = {"http": {"/a": (1, 1, 1, 1)}, "s3": {"/b": None}, "gone": {"/c": None}}
    now: Files = {"http": {"/a": (1, 2, 1, 1)}, "s3": {"/b": None}, "new": {"/d": None}}
    assert differing(before, now) == {"http"}
