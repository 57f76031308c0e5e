"""What is specific to the local directory."""

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.naming import file_name
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import validate
from pcapdaemon.destinations.local import LocalDirectory, LocalSettings
from tests.contracts.destinations import facts, savefile


def made(settings: LocalSettings) -> LocalDirectory:
    local = LocalDirectory(settings)
    local.prepare()
    return local


@pytest.fixture
def local(tmp_path: Path) -> LocalDirectory:
    return made(LocalSettings(writelocal=True, localdir=str(tmp_path / "captures")))


async def test_local_file_has_its_mode_whatever_the_umask(local: LocalDirectory) -> None:
    before = os.umask(0o077)
    try:
        where = (await local.deliver(savefile(), facts())).where
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(where).stat().st_mode) == 0o640


async def test_local_never_overwrites(local: LocalDirectory) -> None:
    (local.directory / "a.pcap").write_bytes(b"mine")
    where = (await local.deliver(savefile(), facts("a.pcap"))).where
    assert where == str(local.directory / "a-1.pcap")
    assert (local.directory / "a.pcap").read_bytes() == b"mine"


async def test_local_follows_no_link_that_stands_in_the_way(
    local: LocalDirectory, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (local.directory / "a.pcap").symlink_to(victim)
    where = (await local.deliver(savefile(), facts("a.pcap"))).where
    assert where.endswith("a-1.pcap")
    assert not victim.exists()


async def test_local_directory_that_is_gone_is_a_failure_for_now_and_not_made_anew(
    local: LocalDirectory,
) -> None:
    local.directory.rmdir()
    with pytest.raises(DeliveryFailed, match="No such file or directory"):
        await local.deliver(savefile(), facts())
    assert not local.directory.exists()
    assert "No such file" in await local.check()
    local.directory.mkdir()
    assert await local.deliver(savefile(), facts())


@pytest.fixture
def full_disk(local: LocalDirectory) -> Iterator[LocalDirectory]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", local.directory], check=True)
    yield local
    subprocess.run(["umount", local.directory], check=True)


async def test_disk_that_is_full_is_a_failure_for_now_and_nothing_is_left(
    full_disk: LocalDirectory,
) -> None:
    with pytest.raises(DeliveryFailed, match="No space left"):
        await full_disk.deliver(savefile(), facts())
    assert list(full_disk.directory.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=16m", full_disk.directory], check=True)
    assert await full_disk.deliver(savefile(), facts())


async def test_disk_that_is_read_only_is_a_failure_for_now(full_disk: LocalDirectory) -> None:
    subprocess.run(["mount", "-o", "remount,ro", full_disk.directory], check=True)
    with pytest.raises(DeliveryFailed, match="Read-only"):
        await full_disk.deliver(savefile(), facts())
    assert "Read-only" in await full_disk.check()


async def test_a_name_that_no_disk_takes_is_refused_for_good(local: LocalDirectory) -> None:
    with pytest.raises(DeliveryRefused, match="too long"):
        await local.deliver(savefile(), facts("x" * 300))


async def test_the_same_one_under_its_second_name_is_found(local: LocalDirectory) -> None:
    (local.directory / "a.pcap").write_bytes(b"mine")
    first = await local.deliver(savefile(), facts("a.pcap"))
    assert await local.deliver(savefile(), facts("a.pcap")) == first
    assert len(list(local.directory.iterdir())) == 2


def limited(directory: Path, **limits: int) -> LocalDirectory:
    return made(LocalSettings(writelocal=True, localdir=str(directory), **limits))


def names(local: LocalDirectory) -> list[str]:
    return sorted(path.name for path in local.directory.iterdir())


async def test_the_oldest_savefiles_make_room_and_nothing_else_is_removed(tmp_path: Path) -> None:
    size = len(savefile().read())
    local = limited(tmp_path / "captures", localmaxbytes=3 * size)
    foreign = local.directory / "of-somebody.pcap"
    foreign.write_bytes(b"x" * 10 * size)
    foreign.chmod(0o644)
    (local.directory / "notes.txt").write_text("mine")
    for number in range(5):
        where = Path((await local.deliver(savefile(), facts(f"{number}.pcap"))).where)
        os.utime(where, (1000 + number, 1000 + number))
    assert names(local) == ["2.pcap", "3.pcap", "4.pcap", "notes.txt", "of-somebody.pcap"]


async def test_what_is_too_old_is_removed(tmp_path: Path) -> None:
    local = limited(tmp_path / "captures", localmaxage=3600)
    for name, at in (("old.pcapng.gz", time.time() - 3700), ("new.pcap", time.time() - 100)):
        where = Path((await local.deliver(savefile(), facts(name))).where)
        os.utime(where, (at, at))
    await local.deliver(savefile(), facts("last.pcap"))
    assert names(local) == ["last.pcap", "new.pcap"]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_savefiles_of_every_form_are_removed(
    tmp_path: Path, form: str, compress: str, encrypted: bool
) -> None:
    fields = {"node": "any", "interface": ["eth0"], "format": form, "compress": compress}
    request, _ = validate(fields)
    interface = Interface("eth0", InterfaceKind.NETWORK)
    name = file_name("id", request, Policy(), "web1", 1.0, [interface], encrypted)
    local = limited(tmp_path / "captures", localmaxage=3600)
    where = Path((await local.deliver(savefile(), facts(name))).where)
    os.utime(where, (1000, 1000))
    await local.deliver(savefile(), facts("last.pcap"))
    assert names(local) == ["last.pcap"]


async def test_without_room_a_delivery_fails_for_now(tmp_path: Path) -> None:
    for limits in ({"localmaxbytes": 1}, {"localminfree": 1 << 60}):
        local = limited(tmp_path / "captures", **limits)
        with pytest.raises(DeliveryFailed, match=r"no room .* localmaxbytes = .* localminfree = "):
            await local.deliver(savefile(), facts())
        assert names(local) == []


async def test_what_can_never_fit_removes_nothing(tmp_path: Path) -> None:
    size = len(savefile().read())
    local = limited(tmp_path / "captures", localmaxbytes=3 * size)
    await local.deliver(savefile(), facts("old.pcap"))
    for limits in ({"localmaxbytes": size - 1}, {"localminfree": 1 << 60}):
        with pytest.raises(DeliveryFailed, match=f"no room for {size} bytes"):
            await limited(local.directory, **limits).deliver(savefile(), facts("new.pcap"))
    assert names(local) == ["old.pcap"]
