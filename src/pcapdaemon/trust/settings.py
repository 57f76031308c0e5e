"""`[trust]`: how signed messages are checked."""

from pydantic import Field

from pcapdaemon.core.policy import Seconds, Strings
from pcapdaemon.core.section import Section


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
