"""`[console]`: the page, and what it may show."""

from pydantic import Field

from pcapdaemon.core.section import Section


class ConsoleSettings(Section):
    """`[console]`: the page that the API serves, and what people may see of packets."""

    listen: bool = Field(
        True, description="Serve the page at `/console/`, where `[http] listen` is true."
    )
    download: bool = Field(
        True,
        description=(
            "Whether the API hands out savefiles: to the page, to `pcapdaemon get`, to anyone with"
            " the token."
        ),
    )
    preview: bool = Field(
        True,
        description=(
            "Whether the API shows packets of savefiles in words: addresses, protocols, and their"
            " bytes if `download` is true too."
        ),
    )
