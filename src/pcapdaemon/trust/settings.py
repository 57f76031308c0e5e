"""`[trust]`: how signed messages are checked, and `[oidc]`: whose tokens are."""

from pydantic import Field, SecretStr, model_validator

from pcapdaemon.core.network import unencrypted
from pcapdaemon.core.policy import Seconds, Strings
from pcapdaemon.core.section import Section
from pcapdaemon.secrets import CertificateFile


class TrustSettings(Section):
    """`[trust]`: how signed messages are checked. `[general] signatures` says whether they are."""

    audience: str = Field(
        "",
        max_length=128,
        description=(
            "The name of this fleet. Where it is set, signed messages must have it as `audience`,"
            " so that one for another fleet is refused."
        ),
    )
    skew: Seconds = Field(
        5, le=60, description="By how many seconds a signed message may be dated ahead."
    )
    verify_rate: int = Field(
        500,
        gt=0,
        description=(
            "Most signatures that are verified in a second. Further messages are refused as busy."
        ),
    )
    revoked: Strings = Field(
        (), description="Fingerprints of keys that sign no longer, whoever has them: `SHA256:...`."
    )


class OidcSettings(Section):
    """`[oidc]`: an issuer of tokens that callers of the API may show."""

    issuer: str = Field(
        "",
        pattern=r"^(https?://[!-~]+)?$",
        description="The issuer, as `iss` in its tokens has it.",
    )
    audience: str = Field("", description="What `aud` in a token must be, or have.")
    keys: str = Field(
        "",
        pattern=r"^(https?://[!-~]+)?$",
        description="Address of the issuer's keys (`jwks_uri`).",
    )
    claim: str = Field(
        "sub", description="The claim that `[[requester]] subjects` is about, for example `email`."
    )
    token: SecretStr | None = Field(
        None, description="Bearer token for the address of the keys; Kubernetes wants one."
    )
    ca_file: CertificateFile | None = Field(
        None, description="Certificates to trust for that address instead of the system's."
    )

    @model_validator(mode="after")
    def _together(self) -> "OidcSettings":
        given = (self.issuer, self.audience, self.keys)
        if any(given) and not all(given):
            raise ValueError("issuer, audience and keys need each other")
        return self

    def flaws(self) -> list[str]:
        """Return a warning if others on the way can exchange the issuer's keys."""
        plain = unencrypted((self.keys,)) if self.keys else []
        words = "[oidc] keys is http://: whoever is on the way can say whose tokens are valid"
        return [words] if plain else []
