"""All tests run in their own network namespace.

So their interfaces, traffic and servers are isolated from the host.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import Wire, bring_up

if TYPE_CHECKING:
    from tests.contracts.sources import Shared

ROOT = Path(__file__).parents[1]
LONGEST = ("test_fleet", "test_sources", "test_storm", "test_chaos", "test_recorder")
"""Files that run first, so that at the end no worker is left with minutes of work."""

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
_numbers = count()

# how long an example takes says nothing on a busy machine
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="run without root: unit tests and replays only"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Enter the namespace before the first thread starts: threads and processes inherit it."""
    # A shell ignores it in what it runs in the background, and programs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("PCAPDAEMON_SANITIZED"):  # only this process, not the programs it starts
        del os.environ["LD_PRELOAD"]
    if config.getoption("--quick") and os.geteuid() != 0:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise pytest.UsageError(f"the tests need root: unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    # interfaces of this namespace, and the cgroups as they were
    keep = "mount --rbind /sys/fs/cgroup /mnt && mount -t sysfs sysfs /sys"
    subprocess.run(["sh", "-ec", f"{keep} && mount --move /mnt /sys/fs/cgroup"], check=True)
    # what killed programs leave in shared memory goes with the namespace
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)
    Path("/run/netns").mkdir(exist_ok=True)  # names of namespaces are isolated too
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Shared"]:
    """Servers that start slowly. Each is started when it is first used."""
    from tests.contracts.sources import Shared

    servers = Shared(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that sends numbered frames."""
    program = tmp_path_factory.mktemp("sender") / "sender"
    subprocess.run(["gcc", "-O2", "-o", program, ROOT / "benchmarks" / "sender.c"], check=True)
    return program


@pytest.fixture
def wire(sender: Path) -> Iterator[Wire]:
    """A separate veth pair, up and without traffic other than the test's."""
    wire = Wire(f"tx{next(_numbers)}", f"rx{next(_numbers)}", sender)
    subprocess.run(
        ["ip", "link", "add", wire.near, "type", "veth", "peer", "name", wire.far], check=True
    )
    bring_up(wire.near, wire.far)
    yield wire
    subprocess.run(["ip", "link", "del", wire.near], check=False, stderr=subprocess.DEVNULL)
