"""The limits of a capture, and the reasons why captures end. Pure."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SNAPLEN = 262144
"""libpcap's MAXIMUM_SNAPLEN (pcap-int.h). Larger values mean this one."""

FILE_HEADER_SIZE = 24
RECORD_HEADER_SIZE = 16


class StopReason(StrEnum):
    """What ended a capture.

    The native loop returns these words, except SHUTDOWN, which is a kind of STOPPED, and GONE: a
    target has ended, which is what its capture waits for. Users see them.
    """

    PACKETS = "packets"
    BYTES = "bytes"
    DURATION = "duration"
    IDLE = "idle"
    STOPPED = "stopped"
    SHUTDOWN = "shutdown"
    MEMORY = "memory"
    INTERFACE_DOWN = "interface-down"
    GONE = "gone"
    ERROR = "error"
    END_OF_FILE = "end-of-file"


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """The limits of one capture; whichever is reached first ends it.

    `size` is bytes of the savefile, including headers (24, and 16 per packet). `duration` and
    `idle_timeout` are seconds.
    """

    packets: int
    size: int
    duration: float
    idle_timeout: float
