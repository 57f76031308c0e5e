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
LONGEST_LENGTH = 7
"""Most digits of the length before a message (RFC 6587, section 3.4.1)."""

IDLE = 60
"""Seconds of silence after which the kernel asks whether the other end of a connection is there."""

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
        self._clients: set[asyncio.Task[Any]] = set()
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
            log.warning(
                "alerts came faster than they were judged, and were dropped",
                source=self.name,
                dropped=self._dropped,
                most_waiting=self._queue.maxsize,
            )
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
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if waiting := self._queue.qsize():
            log.warning("alerts were dropped at the end", source=self.name, dropped=waiting)

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
        task = asyncio.current_task()
        if len(self._clients) >= MOST_CONNECTIONS or task is None:
            log.warning("too many connections with alerts", source=self.name, most=MOST_CONNECTIONS)
            writer.close()
            return
        self._clients.add(task)
        if writer.get_extra_info("socket").family != socket.AF_UNIX:
            _keep_alive(writer.get_extra_info("socket"))
        try:
            while body := await self._next(reader):
                if self._wanted(body):
                    await self._queue.put(body)
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            log.warning(
                "a connection with alerts broke off",
                source=self.name,
                reason=str(error),
                longest=MAX_ALERTS,
            )
        finally:
            self._clients.discard(task)
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readline()


class SocketSource(_Listener):
    """A Unix socket, for streams of lines or for datagrams."""

    @property
    def address(self) -> str:
        """The path of the socket."""
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
        """The URL to listen on, such as udp://0.0.0.0:514."""
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
        while (first := await reader.read(1)) == b"\n":
            pass  # some senders put one after each counted message
        if not first.isdigit():
            return first + await reader.readline() if first else b""
        # a length, a space and a message that begins with its priority; otherwise it is a line
        begin = first
        while begin[-1:].isdigit() and len(begin) <= LONGEST_LENGTH:
            begin += await reader.readexactly(1)
        if not _LENGTH.fullmatch(begin) or int(begin) > MAX_ALERTS:
            return begin if begin.endswith(b"\n") else begin + await reader.readline()
        mark = await reader.readexactly(1)
        if mark != b"<":
            return begin + mark if mark == b"\n" else begin + mark + await reader.readline()
        return mark + await reader.readexactly(int(begin) - 1)


def _keep_alive(connection: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, IDLE), (socket.TCP_KEEPINTVL, 10)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data)

    def error_received(self, exc: Exception) -> None:
        pass  # of a peer that is gone; the socket is still open
