"""A capture on an interface of this host."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import Field

from pcapdaemon.capture.source import PACKET_BUFFER_TIMEOUT_MS, SourceOptions, prepare
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import MAX_SNAPLEN
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes
from pcapdaemon.native.live import LiveCapture, enter_namespace
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.rtnetlink import find_link


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
    wipe: bool = Field(
        False, description="Overwrite memory that held packets when a capture no longer needs it."
    )


class Spare(LiveCapture):
    """An open handle of an interface, for a capture that comes later. No packet passes.

    `buffer` is the bytes of the kernel's buffer, which counts towards the budget. `found` is the
    interface, or None if it has this name only as an alternative. The constructor blocks for about
    10 ms. It raises CaptureRefused or Busy.

    Who takes it calls `replace` when its own capture has begun: opening another at the same time
    would delay that.
    """

    def __new__(cls, interface: str, budget: MemoryBudget, *_: Any, **__: Any) -> Self:
        """Pass only a name and a pool to the native part."""
        return super().__new__(cls, interface, budget.pool)

    def __init__(
        self,
        interface: str,
        budget: MemoryBudget,
        settings: CaptureSettings,
        replace: Callable[[], None],
    ) -> None:
        self.settings, self._budget, self.replace = settings, budget, replace
        link = find_link(interface)
        self.found = (
            Interface(interface, InterfaceKind.NETWORK, loopback=link.loopback)
            if link and link.name == interface
            else None
        )
        self.buffer = budget.take_kernel_buffer(settings.buffer)
        try:
            self.open_handle(
                snaplen=MAX_SNAPLEN,
                promiscuous=settings.promiscuous,
                buffer_size=self.buffer,
                buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
                loopback=link is not None and link.loopback,
            )
            if not self.is_packet_socket:
                raise CaptureRefused(f"{interface} is no network interface", "interface")
        except BaseException:
            self.close()
            raise

    def hand_over(self) -> int:
        """Return the bytes of its buffer, for which the caller is responsible from now on."""
        buffer, self.buffer = self.buffer, 0
        return buffer

    def close(self) -> None:
        """Close the interface if its handle was not adopted."""
        super().close()
        self._budget.give_kernel_buffer(self.hand_over())


SpareOf = Callable[[str, CaptureSettings], Spare | None]
"""Returns an open handle of an interface, or None."""


def no_spare(_: str, __: CaptureSettings) -> None:
    """Return None: every capture opens its interface."""
    return


class LiveSource(LiveCapture):
    """Packets from a socket of its own.

    `nothing_recorded` says why it has no packets from before the trigger. `stream` is a descriptor
    to which the packets are written at once, in place of keeping them; 0: none.
    """

    def __new__(cls, interface: Interface, budget: MemoryBudget, *_: Any, **__: Any) -> Self:
        """Pass only a name and a pool to the native part."""
        return super().__new__(cls, interface.device or interface.name, budget.pool)

    def __init__(
        self,
        interface: Interface,
        budget: MemoryBudget,
        settings: CaptureSettings,
        nothing_recorded: str = "",
        spare_of: SpareOf = no_spare,
        stream: int = 0,
    ) -> None:
        self._stream = stream
        self._namespace = interface.namespace
        self._loopback, self._budget, self._settings = interface.loopback, budget, settings
        self._nothing_recorded, self._buffer, self._spare_of = nothing_recorded, 0, spare_of

    def arm(self, options: SourceOptions) -> None:
        """Open the interface, or use a handle that is open, and set the filter.

        Blocks for about 10 ms, for less with an open handle, and for more while it resolves names.
        For a capture in another namespace, the calling thread stays there.
        """
        spare = None
        if self._namespace:
            self._open_inside(options)
        elif spare := self._spare_of(self.interface, self._settings):
            self._buffer = spare.hand_over()
            self.adopt(spare, snaplen=options.snaplen, buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS)
        else:
            self._open(options)
        try:
            prepare(self, options)
        finally:
            if spare:
                spare.replace()
        if self._stream:
            self.stream_to(self._stream)

    def _open_inside(self, options: SourceOptions) -> None:
        enter_namespace(self._namespace)
        try:
            self._open(options)
        except CaptureRefused as error:
            # the hint about interfaces of this host would be misleading
            raise CaptureRefused(
                str(error), "device" if error.kind == "interface" else error.kind
            ) from None

    def _open(self, options: SourceOptions) -> None:
        self._buffer = self._budget.take_kernel_buffer(self._settings.buffer)
        self.open(
            snaplen=options.snaplen,
            # libpcap would count losses of the interface of this host that has the same name
            promiscuous=self._settings.promiscuous and not self._namespace,
            buffer_size=self._buffer,
            buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
            loopback=self._loopback,
        )

    def past(self, asked: float) -> Lookback:
        """Return an empty lookback: a live source has no packets from before its trigger."""
        return Lookback(asked, 0.0, 0, self._nothing_recorded)

    def close(self) -> None:
        """Close the interface, and stop counting its buffer."""
        super().close()
        buffer, self._buffer = self._buffer, 0
        self._budget.give_kernel_buffer(buffer)
