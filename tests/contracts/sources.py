"""How each source is driven in the tests of the contract: one harness a source, real servers behind it."""

import asyncio
from pathlib import Path
from typing import Any

from pcapdaemon.sources.base import Message, Source
from pcapdaemon.sources.http import HttpSettings, HttpSource
from pcapdaemon.sources.memory import MemorySource
from pcapdaemon.sources.redis import RedisSettings, RedisSource
from tests.servers import RedisServer


class Harness:
    """One source and its server. `server` is False where there is none that could go away."""

    server = True
    source: Source

    async def send(self, body: bytes) -> None:
        """Send a message as a sender would."""

    def stop(self) -> None:
        """End the server without a word."""

    def start(self) -> None:
        """Start the server (again)."""

    def freeze(self) -> None:
        """Let the server hold its connections and do nothing."""

    def thaw(self) -> None:
        """Let it go on."""

    async def close(self) -> None:
        """End everything."""


class MemoryHarness(Harness):
    server = False

    def __init__(self, directory: Path) -> None:
        self.source = self.memory = MemorySource()

    async def send(self, body: bytes) -> None:
        self.memory.put(Message(body, "memory"))


class HttpHarness(Harness):
    """What the API does with the body of a POST; the API itself is tested in test_api.py."""

    server = False

    def __init__(self, directory: Path) -> None:
        self.http = HttpSource(HttpSettings(listen=True), "here")
        self.source = self.http
        self._answers: list[asyncio.Task[object]] = []

    async def send(self, body: bytes) -> None:
        self._answers.append(asyncio.create_task(self.http.submit(body)))
        await asyncio.sleep(0)

    async def close(self) -> None:
        for answer in self._answers:
            answer.cancel()


class RedisHarness(Harness):
    def __init__(self, directory: Path) -> None:
        self.redis = RedisServer(directory).start()
        self.source = RedisSource(RedisSettings(listen=True, host="127.0.0.1", port=self.redis.port), "here")

    async def send(self, body: bytes) -> None:
        with self.redis.client() as client:
            await asyncio.to_thread(client.publish, "capture", body)

    def stop(self) -> None:
        self.redis.kill()

    def start(self) -> None:
        self.redis.start()

    def freeze(self) -> None:
        self.redis.freeze()

    def thaw(self) -> None:
        self.redis.thaw()

    async def close(self) -> None:
        self.redis.kill()


HARNESSES: dict[str, type[Any]] = {"memory": MemoryHarness, "http": HttpHarness, "redis": RedisHarness}
