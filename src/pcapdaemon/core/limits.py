"""What may end a capture, and what did."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SNAPLEN = 262144
"""libpcap's MAXIMUM_SNAPLEN (pcap-int.h): more is taken for this."""

FILE_HEADER_SIZE = 24
RECORD_HEADER_SIZE = 16


class StopReason(StrEnum):
    """What ended a capture.

    The words that the native loop returns (but for SHUTDOWN, a kind of STOPPED), and that users
    see.
    """

    PACKETS = "packets"
    BYTES = "bytes"
    DURATION = "duration"
    IDLE = "idle"
    STOPPED = "stopped"
    SHUTDOWN = "shutdown"
    MEMORY = "memory"
    INTERFACE_DOWN = "interface-down"
    ERROR = "error"
    END_OF_FILE = "end-of-file"


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """The limits of one capture; whichever is reached first ends it.

    `size` is bytes of the savefile with its headers (24, and 16 a packet); `duration` and
    `idle_timeout` are seconds.
    """

    packets: int
    size: int
    duration: float
    idle_timeout: float
