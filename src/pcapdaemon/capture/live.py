"""A capture on an interface of this host."""

from typing import Any, Self

from pydantic import Field

from pcapdaemon.capture.source import PACKET_BUFFER_TIMEOUT_MS, SourceOptions, prepare
from pcapdaemon.core.interface import Interface
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes
from pcapdaemon.native.live import LiveCapture
from pcapdaemon.native.memory import MemoryBudget


class CaptureSettings(Section):
    """How captures are made."""

    buffer: Bytes = Field(
        8 * 1024**2,
        ge=128 * 1024,
        lt=2**31,
        description=(
            "Bytes of the kernel's buffer for each capture. They count towards `[general] memory`."
        ),
    )
    promiscuous: bool = Field(
        True, description="Also capture frames for other hosts. Not on `any`."
    )


class LiveSource(LiveCapture):
    """Packets from a socket of its own.

    `nothing_recorded` says why it has no packets from before the trigger.
    """

    def __new__(cls, interface: Interface, budget: MemoryBudget, *more: Any) -> Self:
        """Pass only a name and a pool to the native part."""
        return super().__new__(cls, interface.name, budget.pool)

    def __init__(
        self,
        interface: Interface,
        budget: MemoryBudget,
        settings: CaptureSettings,
        nothing_recorded: str = "",
    ) -> None:
        self._loopback, self._budget, self._settings = interface.loopback, budget, settings
        self._nothing_recorded, self._buffer = nothing_recorded, 0

    def arm(self, options: SourceOptions) -> None:
        """Open the interface, and set the filter.

        Blocks for about 10 ms, or longer while it resolves names.
        """
        self._buffer = self._budget.take_kernel_buffer(self._settings.buffer)
        self.open(
            snaplen=options.snaplen,
            promiscuous=self._settings.promiscuous,
            buffer_size=self._buffer,
            buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
            loopback=self._loopback,
        )
        prepare(self, options)

    def past(self, asked: int) -> Lookback:
        """Return an empty lookback: a live source has no packets from before its trigger."""
        return Lookback(asked, 0.0, 0, self._nothing_recorded)

    def close(self) -> None:
        """Close the interface, and stop counting its buffer."""
        super().close()
        buffer, self._buffer = self._buffer, 0
        self._budget.give_kernel_buffer(buffer)
