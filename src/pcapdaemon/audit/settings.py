"""`[audit]`: where the audit log is, and what happens if it can't be written."""

from pydantic import Field, model_validator

from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes


class AuditSettings(Section):
    """`[audit]`: the audit log."""

    file: str | None = Field(
        None,
        pattern=r"^/",
        description="The audit log. Each line has the SHA-256 of the one before. Absent: none.",
    )
    required: bool = Field(
        False,
        description="Refuse every request while the audit log can't be written to the disk.",
    )
    sync: bool = Field(
        True,
        description=(
            "Wait for the disk after each line, or after several that come together. Otherwise the"
            " last lines can be lost when the machine loses power."
        ),
    )
    maxbytes: Bytes = Field(
        100_000_000, ge=100_000, description="Size after which a new file is begun."
    )
    maxfiles: int = Field(
        100, ge=1, description="Most older files. The oldest is removed, and a line says so."
    )
    log: bool = Field(
        False,
        description="Write every line to the log as well, and with `[syslog]` to syslog.",
    )
    bus: str = Field(
        "", description="The bus that every line is sent to as well: `redis`, `kafka` or `sqs`."
    )
    place: str = Field(
        "",
        description=(
            "The channel, topic or queue for the lines on that bus. No request can name it as"
            " `reply_to`."
        ),
    )

    @model_validator(mode="after")
    def _together(self) -> "AuditSettings":
        if self.required and not self.file:
            raise ValueError("required needs file")
        if bool(self.bus) != bool(self.place):
            raise ValueError("bus and place need each other")
        if self.bus and not self.file:
            raise ValueError("bus needs file")
        return self
