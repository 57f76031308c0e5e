"""The errors that other modules catch.

PcapdaemonError
ConfigError        a mistake in the configuration or on the command line: all problems, status 2
CaptureRefused     libpcap refused to capture: the requester receives its message
Busy               no room for another capture now: the request is refused, and may be sent again
NotConnected       a source has no connection: the engine reconnects with back-off
DeliveryFailed     a destination failed temporarily: the delivery is retried
DeliveryRefused    a destination rejects the savefile: the delivery is not retried
ResultRefused      a place for results rejects a result: it is not sent again
SpoolError         the spool can't keep a savefile: it is delivered from memory
NotASavefile       the bytes are no pcap or pcapng file, or are damaged: the reader refuses them
"""

import errno
from collections.abc import Sequence


class PcapdaemonError(Exception):
    """The base of all errors of this program; `hint` says what to do next, or is empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PcapdaemonError):
    """The configuration or the command line is wrong; `problems` has one line per mistake."""

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = list(problems)


class CaptureRefused(PcapdaemonError):
    """libpcap refused.

    `kind` is "filter", "interface", "replay", "device", "inside", "permission" or "other".
    """

    def __init__(self, message: str, kind: str = "other") -> None:
        super().__init__(message, HINTS.get(kind, ""))
        self.kind = kind


class Busy(PcapdaemonError):
    """All captures or all memory are in use, or the system is short of something."""


class NotConnected(PcapdaemonError):
    """A source has no connection to its server; the engine reconnects with back-off."""


class DeliveryFailed(PcapdaemonError):
    """A destination failed temporarily.

    The delivery is retried, after `retry_after` seconds if the destination asked for that.
    """

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class DeliveryRefused(PcapdaemonError):
    """A destination rejects this savefile, and retrying would not change that."""


class ResultRefused(PcapdaemonError):
    """A place for results rejects this result."""


class SpoolError(PcapdaemonError):
    """The spool has no room, or its disk fails."""


class NotASavefile(PcapdaemonError):
    """The bytes are no pcap or pcapng file; the message says what is wrong, for people."""


SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)


def refused_by_system(error: OSError) -> CaptureRefused | Busy:
    """Return the exception for an error of the system while a capture begins."""
    words = error.strerror or str(error)
    if error.errno in SHORTAGES:
        return Busy(f"the system has no room for it: {words}")
    return CaptureRefused(f"{error.filename}: {words}" if error.filename else words)


HINTS = {
    "filter": "see pcap-filter(7) for the syntax of capture filters",
    "interface": (
        "run 'pcapdaemon interfaces' to list this host's interfaces, "
        "and 'ip link set dev NAME up' to bring one up"
    ),
    "replay": "'[[interface]] replay' or '--read' names a pcap or pcapng file",
    "inside": (
        "`inside` needs the capability CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a namespace that has"
        " no file in /run/netns, or that no interface of the host leads to"
    ),
    "permission": (
        "run as root, or grant the capability: set AmbientCapabilities=CAP_NET_RAW in the systemd "
        "unit, or run 'setcap cap_net_raw+ep' on the Python interpreter of the virtual environment"
    ),
}
