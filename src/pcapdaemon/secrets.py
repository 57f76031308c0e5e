"""Secrets and certificates that the configuration names, in files or environment variables."""

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, SecretStr

from pcapdaemon.core.section import secret_names


def aws_files() -> tuple[str, ...]:
    """Return the files of AWS's default chain of credentials, whether they exist or not."""
    return (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )


def _certificates(name: str) -> str:
    try:
        ssl.create_default_context(cafile=name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"can't read {name} as certificates: {getattr(error, 'strerror', None) or error}"
        ) from None
    return name


FileName = Annotated[str, AfterValidator(os.path.expandvars)]
"""The name of a file, which may begin with `$CREDENTIALS_DIRECTORY` (systemd.exec(5))."""

CertificateFile = Annotated[FileName, AfterValidator(_certificates)]
"""The name of a file with certificates to trust, which must be readable."""


def _fits_a_header(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        raise ValueError(
            "must contain only printable ASCII characters, because a header carries it, and no"
            " space at either end"
        )
    return secret


HeaderSecret = Annotated[SecretStr, AfterValidator(_fits_a_header)]
"""A secret that a header of HTTP carries."""


def _is_web_address(secret: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(secret.get_secret_value())
        good = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    if not good:
        raise ValueError("must be a URL that begins with https:// or http://")
    return secret


SecretUrl = Annotated[SecretStr, AfterValidator(_is_web_address)]
"""A web address that may contain a secret."""


def resolve_indirect(values: dict[str, Any]) -> dict[str, Any]:
    """Replace KEY_file and KEY_env by KEY, for any key.

    Raises ValueError with a message for people.
    """
    resolved: dict[str, Any] = {}
    for name, value in values.items():
        for suffix, look_up in (("_file", _from_file), ("_env", _from_environment)):
            if name.endswith(suffix):
                try:
                    resolved[name.removesuffix(suffix)] = look_up(str(value))
                except (OSError, KeyError, ValueError) as error:
                    raise ValueError(f"{name}: {_reason(error, str(value))}") from None
                break
        else:
            resolved[name] = value
    return resolved


def resolve_secrets(
    section: type[BaseModel], values: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Replace KEY_file and KEY_env by KEY, with the content of the file or variable.

    Returns the values and the problems.

    Environment variables in the name of a file are expanded, so that `$CREDENTIALS_DIRECTORY` can
    be used (systemd.exec(5)). Newlines at the end of a file are removed.
    """
    values, problems = dict(values), []
    for key in secret_names(section):
        for indirect, look_up in ((f"{key}_file", _from_file), (f"{key}_env", _from_environment)):
            if (where := values.pop(indirect, None)) is None:
                continue
            try:
                values[key] = look_up(str(where))
            except (OSError, KeyError, ValueError) as error:
                problems.append(f"{indirect}: {_reason(error, str(where))}")
    return {
        k: SecretStr(v) if k in secret_names(section) and isinstance(v, str) else v
        for k, v in values.items()
    }, problems


def _from_file(name: str) -> str:
    return Path(os.path.expandvars(name)).read_text().rstrip("\r\n")


def _from_environment(name: str) -> str:
    return os.environ[name]


def _reason(error: Exception, where: str) -> str:
    if isinstance(error, KeyError):
        if re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", where):
            return f"the environment variable {where} is not set"
        return "no such variable; give the name of an environment variable, not the secret itself"
    if isinstance(error, OSError):
        if "/" not in where and "." not in where:  # perhaps the secret itself
            return f"can't read it: {error.strerror}; give the path of a file"
        return f"can't read {where}: {error.strerror}{_elsewhere(where)}"
    return f"{where!r} is not text"


def _elsewhere(where: str) -> str:
    if "$CREDENTIALS_DIRECTORY" not in where or "CREDENTIALS_DIRECTORY" in os.environ:
        return ""
    return (
        "; systemd sets CREDENTIALS_DIRECTORY for the service only, as long as it runs:"
        " /run/credentials/pcapdaemon.service"
    )
