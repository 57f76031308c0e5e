"""`[console]`: the page, and what it may show."""

from pydantic import Field

from pcapdaemon.core.policy import Strings
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes
from pcapdaemon.secrets import HeaderSecret


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
    fleet: bool = Field(
        False,
        description=(
            "Show all nodes: listen to their results on the buses of this node, and ask them every"
            " 30 seconds what they are. Not on SQS, where a result reaches only one reader."
        ),
    )
    fetch_from: Strings = Field(
        (),
        description=(
            "Nodes from which savefiles may be fetched to merge those of a request, by scheme, host"
            " and port of their `[http] public_url`: `https://*.example.com`, `http://10.1.2.*:8723`."
            " Empty: none."
        ),
    )
    fetch_token: HeaderSecret | None = Field(
        None, min_length=8, description="Bearer token that is sent to those nodes, and only there."
    )
    fetch_most: Bytes = Field(
        1024**3, gt=0, description="Most bytes of savefiles that are fetched for one merge."
    )
