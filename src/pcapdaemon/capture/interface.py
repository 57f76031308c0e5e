"""What the configuration says of an interface: its aliases, or the file that it plays."""

from typing import Literal

from pydantic import Field

from pcapdaemon.core.interface import Interface, InterfaceKind, Replay
from pcapdaemon.core.policy import Strings
from pcapdaemon.core.section import Section


class InterfaceSettings(Section):
    """One `[[interface]]`.

    Names that requests may use for it, or a savefile that is played under its name.
    """

    name: str = Field(min_length=1, description="An interface of this host.")
    alias: Strings = Field(
        (), description="What requests may call it; several interfaces may share an alias."
    )
    optional: bool = Field(
        False, description="It is no error if the host lacks it when the daemon starts."
    )
    ready: bool | None = Field(
        None,
        description=(
            "Keep the interface open before requests come, so that a capture begins within a"
            " millisecond. It takes `[capture] buffer` of `[general] memory`. Absent: true for the"
            " first eight interfaces that have no recorder."
        ),
    )
    replay: str | None = Field(
        None,
        min_length=1,
        description=(
            "A pcap or pcapng file: each capture on this name plays it from its beginning, as if"
            " its packets came now. For demonstrations and tests: it needs no privilege."
        ),
    )
    replay_pace: Literal["file", "fast"] = Field(
        "file",
        description=(
            "`file`: packets come at the file's pace, with the time at which they come. `fast`: as"
            " fast as the machine can read, with the file's times; durations and idle timeouts"
            " count in those."
        ),
    )


def replayed(interface: InterfaceSettings) -> Interface:
    """A file that is played as an interface."""
    replay = Replay(interface.replay or "", paced=interface.replay_pace == "file")
    return Interface(
        interface.name, InterfaceKind.REPLAY, f"plays {interface.replay}", replay=replay
    )
