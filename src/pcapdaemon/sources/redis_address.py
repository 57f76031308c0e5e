"""URLs of Redis: one server, several behind Sentinel, or a cluster. Pure."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL; `kind` is "", "sentinel" or "cluster"."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    username: str | None
    password: str | None

    @classmethod
    def of(cls, url: str) -> Self:
        """Parse a URL.

        Raises ValueError without repeating the URL, because it may contain a password.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            raise ValueError(
                f"must be a URL that begins with one of {', '.join(SCHEMES)}, then ://"
            )
        credentials, _, hosts = rest.partition("/")[0].rpartition("@")
        user, _, password = credentials.partition(":")
        kind, path = scheme.partition("+")[2], urlsplit(url).path.strip("/")
        if kind == "sentinel" and not path:
            raise ValueError(
                "must end with the name of the service: ...//host:port,host:port/SERVICE"
            )
        return cls(
            kind,
            scheme.startswith("rediss"),
            tuple(
                _host_and_port(host, 26379 if kind == "sentinel" else 6379)
                for host in hosts.split(",")
            ),
            path,
            unquote(user) or None,
            unquote(password) or None,
        )

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        kind = f"+{self.kind}" if self.kind else ""
        path = f"/{self.path}" if self.path else ""
        return f"{'rediss' if self.tls else 'redis'}{kind}://{hosts}{path}"


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "localhost", parts.port or default
    except ValueError:
        raise ValueError("each server must be host:port, with a number as the port") from None
