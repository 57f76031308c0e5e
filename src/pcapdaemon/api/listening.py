"""The sockets that the API listens on: one of TCP, with or without TLS, and one of this host."""

import contextlib
import os
import socket
import stat
from dataclasses import dataclass

from pcapdaemon.core.errors import ConfigError
from pcapdaemon.filewatch import Identity, identity
from pcapdaemon.sources.http import HttpSettings, address_family, why_not_listening

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Tcp:
    """An address, and the files of TLS."""

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    clients: str | None = None
    clients_identity: Identity = None
    """Of that file: authorities that are no longer in it must count no longer."""

    def bind(self) -> socket.socket:
        """Return the socket. Raises ConfigError."""
        family = address_family(self.host)
        try:
            made = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(
                [f"[http]: can't listen on {self.host} port {self.port}: {error.strerror}"],
                why_not_listening(error),
            ) from None
        # Connections inherit it. asyncio only sets it where the socket names its protocol, and
        # without it each further response on a connection waits 40 ms for the client's ACK.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def gone(self) -> None:
        """Nothing is left of a closed socket."""

    def excludes(self, other: "Address") -> bool:
        """Return whether only one of both can be bound."""
        return isinstance(other, Tcp) and other.port == self.port


@dataclass(frozen=True, slots=True)
class Unix:
    """A path on this host. Anybody may connect: the kernel says who it is."""

    path: str

    def bind(self) -> socket.socket:
        """Return the socket. One that nobody listens on any more is replaced.

        Raises ConfigError.
        """
        try:
            if self._is_abandoned():
                os.unlink(self.path)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.bind(self.path)
                os.chmod(self.path, 0o666)  # noqa: S103  # the kernel says who connects
                made.listen(BACKLOG)
            except OSError:
                made.close()
                raise
        except OSError as error:
            raise ConfigError(
                [f"[http] socket: can't listen on {self.path}: {error.strerror or error}"],
                "its directory must exist, and another daemon may be running",
            ) from None
        return made

    def gone(self) -> None:
        """Remove the path of a closed socket, unless another daemon has taken it."""
        with contextlib.suppress(OSError):
            if self._is_abandoned():
                os.unlink(self.path)

    def excludes(self, other: "Address") -> bool:
        """Return whether only one of both can be bound."""
        return self == other

    def _is_abandoned(self) -> bool:
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                return False
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(self.path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


Address = Tcp | Unix


def addresses(settings: HttpSettings | None) -> dict[type[Address], Address]:
    """Return where the API listens, by kind."""
    if settings is None:
        return {}
    clients = settings.client_ca_file
    tls = (settings.certificate_file, settings.key_file, clients)
    made = Tcp(settings.host, settings.port, *tls, identity(clients) if clients else None)
    found: dict[type[Address], Address] = {Tcp: made}
    if settings.socket:
        found[Unix] = Unix(settings.socket)
    return found
