"""A proxy that passes HTTP on, or misbehaves as networks and servers do.

A seed decides what it does.
"""

import contextlib
import random
import socket
import struct
import threading
import time

from tests.proxy import RESET

ANSWERS = {
    "503": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy",
    "400": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!",
    "garbage": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "html": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection:"
        b" close\r\n\r\n<html></html>"
    ),
}


class ChaosProxy:
    """Listens on a port.

    `share` is the probability that a connection goes wrong (0: none does).
    """

    def __init__(self, port: int, target: int, seed: int) -> None:
        self.port, self._target, self._random = port, target, random.Random(seed)
        self.share = 0.0
        self.troubles: dict[str, int] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            trouble = self._choose()
            threading.Thread(target=self._serve, args=(client, *trouble), daemon=True).start()

    def _choose(self) -> tuple[str, int, float]:
        draw = self._random.random()
        kind = self._random.choice(
            ["503", "400", "garbage", "html", "reset", "cut", "deaf", "stall"]
        )
        size, seconds = self._random.randrange(60_000), self._random.uniform(0.2, 1.5)
        if draw >= self.share:
            return "", 0, 0
        self.troubles[kind] = self.troubles.get(kind, 0) + 1
        return kind, size, seconds

    def _serve(self, client: socket.socket, kind: str, size: int, seconds: float) -> None:
        with client, contextlib.suppress(OSError):
            if kind in ANSWERS:
                client.settimeout(seconds)
                with contextlib.suppress(TimeoutError):
                    self._read(client, size)
                client.sendall(ANSWERS[kind])
                return
            if kind == "stall":  # it reads nothing, then closes
                time.sleep(seconds)
                return
            if kind == "reset":
                self._read(client, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            with socket.create_connection(("127.0.0.1", self._target), 5) as server:
                self._pass_on(client, server, kind, size)

    def _read(self, client: socket.socket, size: int) -> None:
        while size > 0 and (data := client.recv(65536)):
            size -= len(data)

    def _pass_on(self, client: socket.socket, server: socket.socket, kind: str, size: int) -> None:
        """Copy both ways.

        "cut" breaks off in the middle of the request. "deaf" withholds the server's answer.
        """
        server.settimeout(None)
        there = threading.Thread(
            target=self._copy, args=(client, server, size if kind == "cut" else None), daemon=True
        )
        there.start()
        if kind == "deaf":
            with contextlib.suppress(OSError):
                server.recv(65536)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._copy(server, client, None)
        for one in (client, server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        there.join()

    def _copy(self, source: socket.socket, sink: socket.socket, size: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if size is not None and (size := size - len(data)) <= 0:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
