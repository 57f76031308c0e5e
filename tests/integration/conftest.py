"""Servers that all integration tests share."""

from collections.abc import Iterator

import pytest

from tests.contracts.sources import Shared


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Servers that take long to start, each started at its first use."""
    servers = Shared(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.close()
