"""`[results]`: which results are sent, and the webhook."""

import base64
import binascii
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from pcapdaemon.core.fields import ResultKind
from pcapdaemon.core.network import unencrypted
from pcapdaemon.core.policy import Seconds, Strings
from pcapdaemon.core.section import Section
from pcapdaemon.secrets import CertificateFile, FileName, SecretUrl


class ResultsSettings(Section):
    """`[results]`: what requesters receive, and a webhook in addition to the buses."""

    events: Annotated[tuple[ResultKind, ...], Field(strict=False)] = Field(
        ("rejected", "finished"),
        description=(
            "Which results are sent: `rejected`, `accepted`, `started`, `progress` (once a second),"
            " `captured`, `delivered`, `spooled`, `failed`, `finished` (the whole record). A"
            " request's `reply_events` replaces this list."
        ),
    )
    maxage: Seconds = Field(
        86400, description="How long a result that can't be sent is retried, in seconds."
    )
    webhook: SecretUrl | None = Field(
        None, description="A URL to which results of all requests are sent by POST."
    )
    secret: SecretStr | None = Field(
        None,
        min_length=8,
        description=(
            "Signing key of the webhook: `whsec_` and base64, or any text. Absent: no signature."
        ),
    )
    ca_file: CertificateFile | None = Field(
        None, description="Certificates to trust for the webhook instead of the system's."
    )

    key_file: FileName | None = Field(
        None,
        description=(
            "File of this node's own private key (SSH, Ed25519, without a passphrase). It signs the"
            " node's results, and what its triggers and its console send on a bus. Absent: nothing"
            " is signed."
        ),
    )
    node_keys: Strings = Field(
        (),
        description=(
            "Public keys of nodes, `ssh-ed25519 AAAA... NODE`, for whoever reads results: the"
            " command line and the console then ignore results that the node itself did not sign."
        ),
    )

    def flaws(self) -> list[str]:
        """Return warnings about results that others can read, or send in this node's name."""
        if self.webhook is None:
            return []
        unsigned = "[results] without secret: the webhook can't tell who sends a result"
        plain = unencrypted((self.webhook.get_secret_value(),))
        return [
            *(["[results] webhook is http://: results are sent unencrypted"] if plain else []),
            *([] if self.secret else [unsigned]),
        ]

    @field_validator("secret")
    @classmethod
    def _secret_is_base64(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret:
            key_of(secret.get_secret_value())
        return secret


def key_of(secret: str) -> bytes:
    """Return the bytes of a signing key; raises ValueError with a message for people."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("must be base64 after whsec_") from None
