"""Which libpcap this program uses."""

from pathlib import Path

import pcapdaemon
from pcapdaemon.native.live import library_version

BUNDLED = Path(pcapdaemon.__file__).parents[1] / "pcapdaemon.libs"
"""Where a wheel has the libraries that it brings along."""


def library() -> str:
    """Return the version of libpcap, and whether it came with this program, in words."""
    words = library_version().split()
    number = words[words.index("version") + 1] if "version" in words else "of unknown version"
    return f"libpcap {number}" + (" (bundled)" if BUNDLED.is_dir() else "")
