"""`[delivery]`: how savefiles are delivered."""

from pydantic import Field

from pcapdaemon.core.policy import Seconds
from pcapdaemon.core.section import Section


class DeliverySettings(Section):
    """How savefiles are delivered."""

    deadline: Seconds = Field(
        600,
        description=(
            "Without a spool: how long a failing destination is retried before the savefile is"
            " lost, in seconds."
        ),
    )
    concurrent: int = Field(
        4, ge=1, le=64, description="Most savefiles that are sent to a destination at once."
    )
    memory_grace: Seconds = Field(
        30,
        description=(
            "With a spool: how long a savefile stays in memory while a destination fails, in"
            " seconds."
        ),
    )
