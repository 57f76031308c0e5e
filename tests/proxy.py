"""A TCP proxy that can break connections: all at once, or while the server sends."""

import contextlib
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Proxy:
    """Listens on a port and passes everything on to another, until `cut` is called."""

    def __init__(
        self, port: int, target: int, host: str = "127.0.0.1", listen: str = "127.0.0.1"
    ) -> None:
        self.port, self._target, self._host, self._listen = port, target, host, listen
        self._lock = threading.Lock()
        self._pairs: set[socket.socket] = set()
        self._left: int | None = None
        self.cuts = 0
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen, perhaps again."""
        self._listener = socket.create_server((self._listen, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, and break every connection."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            self.cuts += 1
            for one in self._pairs:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    one.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def cut_after(self, size: int) -> None:
        """Break every connection once the server has sent this many more bytes."""
        with self._lock:
            self._left = size

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection((self._host, self._target), 5)
            except OSError:
                if listener.fileno() < 0:
                    return
                with contextlib.suppress(OSError, UnboundLocalError):
                    client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs |= {client, server}
            for source, sink, counted in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, counted), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if counted and self._is_enough(len(data)):
                    sink.sendall(data[: len(data) // 2])
                    self.cut()
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._pairs.discard(one)
            one.close()

    def _is_enough(self, size: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= size
            if self._left > 0:
                return False
            self._left = None
            return True
