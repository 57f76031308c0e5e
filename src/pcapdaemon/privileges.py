"""What this process may do."""

from pathlib import Path

_CAP_NET_RAW = 13


def can_capture() -> bool:
    """Return whether this process has CAP_NET_RAW; true if that can't be known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    effective = next((line for line in lines if line.startswith("CapEff:")), "CapEff: ffffffff")
    return bool(int(effective.split()[1], 16) >> _CAP_NET_RAW & 1)
