"""One connection to the API: a client must send a whole request in time."""

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 1000
"""Most connections at the same time. A further one closes the oldest that has sent no request."""

REQUEST_WITHIN = 10.0
"""Most seconds from the first byte of a request, or from the connection, to its last byte."""


class Connection(H11Protocol):
    """uvicorn's connection with a deadline for requests, and within a number of connections."""

    _waiting: ClassVar[dict["Connection", None]] = {}
    """The connections from which a request is missing, the oldest first."""

    _deadline: asyncio.TimerHandle | None = None

    # uvicorn, too, takes less than asyncio's protocol says
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._relax()
        super().connection_lost(exc)

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
