"""What caused a request, in the words of the system that found it. Pure.

The words come from any system, so they are cut and made printable. They are shown and kept, and
never become a filter, a path or a header.
"""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pcapdaemon.core.text import printable, shortened

LONGEST, LONGEST_URL = 256, 1024


def _one_line(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return shortened(printable(" ".join(value.split())), LONGEST)


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or not value.isprintable():
        raise ValueError("must be a URL that begins with https:// or http://")
    return value


Line = Annotated[str, BeforeValidator(_one_line)]
Link = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(_web_address)]


class Cause(BaseModel):
    """An alert, a ticket or an event. At least one field is set."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    system: Line | None = Field(None, description="The system, for example `alertmanager`.")
    id: Line | None = Field(None, description="The system's own name for it.")
    url: Link | None = Field(None, description="Where people find it.")
    title: Line | None = Field(None, description="What it says.")

    @model_validator(mode="after")
    def _says_something(self) -> "Cause":
        if not any((self.system, self.id, self.url, self.title)):
            raise ValueError("must have system, id, url or title")
        return self

    @property
    def tag(self) -> str:
        """Its system and id as a tag, without commas; empty if it has no id."""
        words = ":".join(filter(None, (self.system, self.id)))
        return f"cause:{words.replace(',', ';')}" if self.id else ""

    def as_json(self) -> dict[str, str]:
        """Return its fields that are set."""
        return self.model_dump(exclude_none=True)
