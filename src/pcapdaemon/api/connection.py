"""One connection to the API: a client must send a whole request in time."""

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pcapdaemon.api.access import Peer

MOST_CONNECTIONS = 1000
"""Most connections at the same time. A further one closes the oldest that has sent no request."""

REQUEST_WITHIN = 10.0
"""Most seconds from the first byte of a request, or from the connection, to its last byte."""


STALLED_AFTER = 60.0
"""Seconds without a byte taken after which a client is gone. Savefiles and their memory wait."""

_CREDENTIALS = struct.Struct("3i")


def _peer_of(transport: asyncio.Transport) -> Peer:
    """Return what the kernel or TLS says of the other end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(found)
        return Peer(user)
    return Peer(None, _names_in(transport.get_extra_info("peercert") or {}))


def _unsent(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel has for the other end: SIOCOUTQ, see tcp(7)."""
    sock = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
    except (OSError, AttributeError):
        return 0


def _names_in(certificate: dict[str, Any]) -> tuple[str, ...]:
    """Return the alternative names, or without any the common name, of a verified certificate."""
    names = tuple(name for _, name in certificate.get("subjectAltName", ()))
    subject = dict(part for parts in certificate.get("subject", ()) for part in parts)
    return names or tuple(filter(None, (subject.get("commonName"),)))


class Connection(H11Protocol):
    """uvicorn's connection with a deadline for requests, and within a number of connections."""

    _waiting: ClassVar[dict["Connection", None]] = {}
    """The connections from which a request is missing, the oldest first."""

    _deadline: asyncio.TimerHandle | None = None
    _stalling: asyncio.TimerHandle | None = None

    # uvicorn, too, takes less than asyncio's protocol says
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.app_state = {"peer": _peer_of(transport)}
        self._expect()
        if len(self.connections) > MOST_CONNECTIONS:
            oldest = next(iter(self._waiting), self)
            oldest.connections.discard(oldest)
            oldest._relax()
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect()
        else:
            self._relax()

    def pause_writing(self) -> None:
        """Begin to wait until the client takes bytes of a response."""
        super().pause_writing()
        self._watch_bytes()

    def resume_writing(self) -> None:
        """Note that the client takes bytes."""
        self._forget_bytes()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._relax()
        self._forget_bytes()
        super().connection_lost(exc)

    def _watch_bytes(self, left: tuple[int, int] = (-1, -1)) -> None:
        """Abort the connection if as many bytes are `left` as before, here and in the kernel."""
        waiting = self.transport.get_write_buffer_size(), _unsent(self.transport)
        if waiting == left:
            self.transport.abort()
            return
        self._stalling = self.loop.call_later(STALLED_AFTER, self._watch_bytes, waiting)

    def _forget_bytes(self) -> None:
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_WITHIN, self._too_slow)
            self._waiting[self] = None

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._waiting.pop(self, None)

    def _too_slow(self) -> None:
        self._relax()
        self.transport.abort()
