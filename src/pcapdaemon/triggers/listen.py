"""Alerts that other programs send to a socket: a Unix socket, or syslog over UDP or TCP.

Streams wait while alerts are judged. Datagrams that come faster than that are dropped and counted.
"""

import asyncio
import os
import re
import socket
import stat
from abc import abstractmethod
from contextlib import suppress
from typing import Any

import structlog

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.sources.base import Message, Source
from pcapdaemon.triggers.alert import MAX_ALERTS
from pcapdaemon.triggers.follow import Wanted
from pcapdaemon.triggers.settings import TriggerSettings

WAITING = 256
"""Most messages that wait to be judged."""

MOST_CONNECTIONS = 64
_LENGTH = re.compile(rb"[1-9][0-9]{0,6} ")

log = structlog.get_logger()


class _Listener(Source):
    """What both kinds of sockets share: a bounded queue, and streams of lines."""

    Settings = TriggerSettings

    def __init__(self, settings: TriggerSettings, node: str, wanted: Wanted) -> None:
        self.settings, self.name = settings, f"trigger:{settings.name}"
        self._wanted = wanted
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        self._server: asyncio.Server | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._dropped = 0

    async def connect(self) -> None:
        """Listen. Raises NotConnected if that is impossible."""
        try:
            await self._listen()
        except OSError as error:
            raise NotConnected(f"{self.address}: {error.strerror or error}") from None

    async def receive(self) -> Message:
        """Return the next message that matters."""
        body = await self._queue.get()
        if self._dropped:
            log.warning("alerts came too fast", source=self.name, dropped=self._dropped)
            self._dropped = 0
        return Message(body, self.name)

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        server, transport = self._server, self._transport
        self._server = self._transport = None
        if transport:
            transport.close()
        if server:
            server.close()
        for writer in tuple(self._clients):
            writer.close()

    @abstractmethod
    async def _listen(self) -> None: ...

    async def _datagrams(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._take), sock=bound
        )

    def _take(self, body: bytes) -> None:
        if self._wanted(body):
            try:
                self._queue.put_nowait(body)
            except asyncio.QueueFull:
                self._dropped += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._clients.add(writer)
        try:
            while body := await self._next(reader):
                if self._wanted(body):
                    await self._queue.put(body)
        except (OSError, ValueError, EOFError):
            pass  # it ended, or sent a line that is too long
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readline()


class SocketSource(_Listener):
    """A Unix socket, for streams of lines or for datagrams."""

    @property
    def address(self) -> str:
        """The path."""
        return self.settings.socket or ""

    async def _listen(self) -> None:
        path = self.address
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)  # of an earlier run; two daemons can't share it
        datagrams = self.settings.socket_type == "datagram"
        bound = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
        )
        try:
            bound.bind(path)
            os.chmod(path, 0o660)
            bound.setblocking(False)
            if datagrams:
                await self._datagrams(bound)
            else:
                self._server = await asyncio.start_unix_server(
                    self._serve, sock=bound, limit=MAX_ALERTS
                )
        except BaseException:
            bound.close()
            raise


class SyslogSource(_Listener):
    """Syslog over UDP, or over TCP in both framings of RFC 6587."""

    @property
    def address(self) -> str:
        """The URL."""
        return self.settings.syslog or ""

    async def _listen(self) -> None:
        protocol, host, port = self.settings.syslog_address
        if protocol == "udp":
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            bound = socket.socket(family, socket.SOCK_DGRAM)
            try:
                bound.bind((host, port))
                bound.setblocking(False)
                await self._datagrams(bound)
            except BaseException:
                bound.close()
                raise
            return
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_ALERTS)

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        first = await reader.read(1)
        if not first.isdigit():
            return first + await reader.readline() if first else b""
        length = first + await reader.readuntil(b" ")
        if not _LENGTH.fullmatch(length) or int(length) > MAX_ALERTS:
            raise ValueError("not a length")
        return await reader.readexactly(int(length))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data)

    def error_received(self, exc: Exception) -> None:
        pass  # of a peer that is gone; the socket is still open
