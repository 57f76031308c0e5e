"""What can go wrong, as far as somebody catches it.

PcapdaemonError
ConfigError        a mistake in the configuration or on the command line: all problems, status 2
CaptureRefused     libpcap would not capture: the requester receives its words
Busy               no room for one more capture now: the requester is refused, and may ask again
NotConnected       a source has no connection: the engine connects again with back-off
DeliveryFailed     a destination could not take a savefile for now: it is retried
DeliveryRefused    a destination will never take it: it is not retried
ResultRefused      a place of results will not take one: it is not sent again
SpoolError         the spool can't keep a savefile: it is delivered from memory
"""

from collections.abc import Sequence


class PcapdaemonError(Exception):
    """The root of all errors of this program; `hint` says what to do next, if that is known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PcapdaemonError):
    """The configuration or the command line is wrong; `problems` has a line for each mistake."""

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = list(problems)


class CaptureRefused(PcapdaemonError):
    """libpcap refused; `kind` is "filter", "interface", "replay", "permission" or "other"."""

    def __init__(self, message: str, kind: str = "other") -> None:
        super().__init__(message, HINTS.get(kind, ""))
        self.kind = kind


class Busy(PcapdaemonError):
    """All captures or all memory are in use."""


class NotConnected(PcapdaemonError):
    """A source lost its server, or never had it; the engine connects again after a while."""


class DeliveryFailed(PcapdaemonError):
    """A destination failed for now.

    The delivery is tried again, `retry_after` seconds later if the destination said so.
    """

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class DeliveryRefused(PcapdaemonError):
    """A destination will not take this savefile however often it is tried."""


class ResultRefused(PcapdaemonError):
    """The place of a result will not take it."""


class SpoolError(PcapdaemonError):
    """The spool has no room, or its disk fails."""


HINTS = {
    "filter": "capture filters are explained in pcap-filter(7)",
    "interface": (
        "'pcapdaemon interfaces' lists what this host has; 'ip link set dev NAME up' brings one up"
    ),
    "replay": "'[[interface]] replay' or '--read' names a pcap or pcapng file",
    "permission": (
        "run as root, or give the capability: AmbientCapabilities=CAP_NET_RAW in the systemd unit, "
        "or 'setcap cap_net_raw+ep' on the Python interpreter of its virtual environment"
    ),
}
