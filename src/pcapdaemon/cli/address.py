"""Where a daemon's API is, and which token is sent there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from pcapdaemon import config
from pcapdaemon.core.errors import ConfigError, PcapdaemonError
from pcapdaemon.core.section import Section

EXAMPLE = "for example http://127.0.0.1:8723"


class HttpAddress(Section):
    """What a client needs of `[http]`. It may not be able to read the other files of it."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8723, ge=1, le=65535)
    token_file: str | None = None
    socket: str | None = None
    certificate_file: str | None = None

    @property
    def url(self) -> str:
        """The URL of the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate_file else 'http'}://{host}:{self.port}"


def of_section(values: Mapping[str, Any]) -> HttpAddress:
    """Return the address in the tables of a configuration. Raises ConfigError."""
    http = values.get("http", {})
    if isinstance(http, dict):
        http = {name: http[name] for name in HttpAddress.model_fields if name in http}
    return config.section("http", HttpAddress, {"http": http}, "--config")


def checked(url: str) -> str:
    """Return a URL, or raise ConfigError if it can't be that of an API."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ConfigError([f"--url {url}: {error}"], EXAMPLE) from None
    if not good:
        words = "must begin with http:// or https://, and name a host"
        raise ConfigError([f"--url {url}: {words}"], EXAMPLE)
    return url


def token_in(file: Path) -> str:
    """Return the token in a file. Raises PcapdaemonError, without the token."""
    try:
        text = Path(os.path.expandvars(file)).read_text("ascii").strip()
    except OSError as error:
        raise PcapdaemonError(f"{file}: {error.strerror}", "check --token-file") from None
    except UnicodeDecodeError:
        text = "\0"
    if not text:
        raise PcapdaemonError(f"{file}: has no token", "write the token into it")
    if not text.isprintable():
        words = "must have one line of printable ASCII characters, because a header carries it"
        raise PcapdaemonError(f"{file}: the token {words}", "check --token-file")
    return text
