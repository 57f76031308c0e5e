"""The API's connections, on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi.responses import StreamingResponse

from pcapdaemon.api import connection
from pcapdaemon.api.listening import Tcp
from pcapdaemon.api.server import ApiServer
from pcapdaemon.sources.http import HttpSettings
from tests.servers import free_port

PIECE = bytes(1 << 20)


class Endless:
    """An application whose response has no end, and that knows when it was ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(self._pieces())(scope, receive, send)

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield PIECE
                await asyncio.sleep(0)
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(app: Callable[..., Any]) -> AsyncIterator[int]:
    settings = HttpSettings(listen=True, port=free_port())
    server = ApiServer(settings, lambda _: None, Tcp("127.0.0.1", settings.port))
    server.app, server.is_open = app, lambda _: True
    task = asyncio.create_task(server.serve())
    try:
        yield server.port
    finally:
        await server.stop()
        server.abort()
        await task


async def test_a_client_that_takes_no_byte_is_gone_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "STALLED_AFTER", 0.2)
    app = Endless()
    async with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(10):
                await app.ended.wait()


async def test_a_slow_client_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_AFTER", 3.0)
    app = Endless()
    async with serving(app) as port:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            for _ in range(20):
                await loop.sock_recv(client, 1 << 16)
                await asyncio.sleep(0.4)
            assert not app.ended.is_set()
