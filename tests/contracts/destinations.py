"""How the contract tests drive each destination.

Each destination has one harness, with a real server behind it.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcapdaemon.core.request import validate
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.destinations.cloudshark import CloudShark, CloudSharkSettings
from pcapdaemon.destinations.local import LocalDirectory, LocalSettings
from pcapdaemon.destinations.memory import MemoryDestination
from pcapdaemon.destinations.s3 import S3
from pcapdaemon.destinations.s3_settings import S3Settings
from pcapdaemon.savefile.savefile import Savefile
from tests.cloudshark import TOKEN
from tests.contracts.sources import Shared
from tests.examples.drawer import Drawer, DrawerSettings
from tests.helpers import savefile_of
from tests.proxy import Proxy
from tests.servers import free_port

_numbers = itertools.count()
CONTENT = os.urandom(3_000_000)


def savefile(content: bytes = CONTENT) -> Savefile:
    """Return a savefile of many parts."""
    return savefile_of(*(content[n : n + 100_000] for n in range(0, len(content), 100_000)))


def facts(
    name: str = "a-lo-1-ID.pcap", tags: str = "node:a", again: bool = False, **fields: object
) -> SavefileInfo:
    """Return the information about a savefile; `fields` are the request's."""
    request, problems = validate({"node": "any", "interface": ["lo"], **fields})
    assert not problems
    return SavefileInfo("ID", "lo", name, tags, request, again)


class Harness:
    """One destination; `server` is False if it has none that could stop."""

    server = True
    secrets: tuple[str, ...] = ()
    destination: Destination

    def __init__(self, directory: Path, shared: Shared) -> None: ...

    def contents(self, name: str) -> list[bytes]:
        """Return everything that is stored under a file's name."""
        raise NotImplementedError

    def leftovers(self) -> int:
        """Return how many objects exist, including unfinished ones."""
        return 0

    def name(self, name: str) -> str:
        """Return a file's name that no other test uses."""
        return name

    def behind_proxy(self) -> tuple[Destination, Proxy]:
        """Return the same destination, with a connection that can be broken."""
        raise NotImplementedError

    @contextmanager
    def out_of_order(self) -> Iterator[Destination]:
        """Yield the destination while nothing answers."""
        destination, proxy = self.behind_proxy()
        proxy.close()
        yield destination


class MemoryHarness(Harness):
    server = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.destination = self.memory = MemoryDestination()

    def contents(self, name: str) -> list[bytes]:
        return [self.memory.savefiles[name]] if name in self.memory.savefiles else []


class LocalHarness(Harness):
    def __init__(self, directory: Path, shared: Shared) -> None:
        self.directory = directory / "captures"
        self.destination = LocalDirectory(
            LocalSettings(writelocal=True, localdir=str(self.directory))
        )
        self.destination.prepare()

    def contents(self, name: str) -> list[bytes]:
        stem = name.rpartition(".")[0]
        return [path.read_bytes() for path in self.directory.glob(f"{stem}*")]

    def leftovers(self) -> int:
        return len(list(self.directory.iterdir()))

    @contextmanager
    def out_of_order(self) -> Iterator[Destination]:
        self.directory.rename(self.directory.with_name("away"))
        yield self.destination
        self.directory.with_name("away").rename(self.directory)


class S3Harness(Harness):
    secrets = ("secret-key",)

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.moto, self.bucket = shared.moto, shared.moto.bucket(f"bucket-{next(_numbers)}")
        self.destination = self._at(self.moto.url)

    def _at(self, endpoint: str) -> Destination:
        section = self.moto.section(self.bucket, accesskey="secret-key", folder="pcaps/fra1")
        return S3(S3Settings.model_validate({**section, "endpoint": endpoint}))

    def contents(self, name: str) -> list[bytes]:
        found = self.moto.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        keys = [one["Key"] for one in found if one["Key"].rpartition("/")[2] == name]
        return [self.moto.object(f"s3://{self.bucket}/{key}") for key in keys]

    def leftovers(self) -> int:
        objects = self.moto.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return len(objects) + len(
            self.moto.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        )

    def behind_proxy(self) -> tuple[Destination, Proxy]:
        proxy = Proxy(free_port(), self.moto.port)
        return self._at(f"http://127.0.0.1:{proxy.port}"), proxy


class CloudSharkHarness(Harness):
    secrets = (TOKEN,)

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.cloudshark, self._prefix = shared.cloudshark, f"{next(_numbers)}-"
        self.destination = self._at(self.cloudshark.port)

    def _at(self, port: int) -> Destination:
        return CloudShark(CloudSharkSettings.model_validate(self.cloudshark.section(port=port)))

    def name(self, name: str) -> str:
        return self._prefix + name

    def contents(self, name: str) -> list[bytes]:
        return [
            self.cloudshark.content(one)
            for one in self.cloudshark.uploads
            if one["filename"] == name
        ]

    def leftovers(self) -> int:
        return sum(one["filename"].startswith(self._prefix) for one in self.cloudshark.uploads)

    def behind_proxy(self) -> tuple[Destination, Proxy]:
        proxy = Proxy(free_port(), self.cloudshark.port)
        return self._at(proxy.port), proxy


class DrawerHarness(Harness):
    """An example of a destination that other people wrote."""

    server = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.path = directory / "drawer"
        self.path.mkdir()
        self.destination = Drawer(DrawerSettings(store=True, path=str(self.path)))

    def contents(self, name: str) -> list[bytes]:
        return [file.read_bytes() for file in self.path.iterdir()]


HARNESSES: dict[str, type[Harness]] = {
    "memory": MemoryHarness,
    "drawer": DrawerHarness,
    "local": LocalHarness,
    "s3": S3Harness,
    "cloudshark": CloudSharkHarness,
}
