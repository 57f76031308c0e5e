"""A savefile that is played as if it were an interface.

It needs no privileges, and shows what a capture would have caught.
"""

from typing import Self

from pcapdaemon.capture.source import SourceOptions, prepare
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.interface import Replay
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.replayed import ReplayedCapture

NOTHING_RECORDED = "a replayed file has no packets from before its start"


class ReplaySource(ReplayedCapture):
    """Packets from a pcap or pcapng file, from its beginning."""

    def __new__(cls, interface: str, replay: Replay, budget: MemoryBudget) -> Self:
        """Pass only a name and a pool to the native part."""
        return super().__new__(cls, interface, budget.pool)

    def __init__(self, interface: str, replay: Replay, budget: MemoryBudget) -> None:
        self._replay = replay

    def arm(self, options: SourceOptions) -> None:
        """Open the file, and set the filter for its linktype."""
        try:
            self.open(self._replay.file, snaplen=options.snaplen, paced=self._replay.paced)
        except OSError as error:
            raise CaptureRefused(f"{self._replay.file}: {error.strerror}", "replay") from None
        except CaptureRefused as error:
            raise CaptureRefused(f"{self._replay.file}: {error}", error.kind) from None
        prepare(self, options)

    @property
    def down(self) -> float:
        """Return 0: a file does not go down."""
        return 0.0

    def past(self, asked: float) -> Lookback:
        """Return an empty lookback, because a file has no packets from before its start."""
        return Lookback(asked, 0.0, 0, NOTHING_RECORDED)
