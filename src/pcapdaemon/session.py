"""One plan on one interface: from opening it to a savefile in memory."""

import asyncio
import time
from dataclasses import asdict, dataclass

from pcapdaemon.capture import Capture, MemoryBudget, Savefile
from pcapdaemon.config import CaptureSettings
from pcapdaemon.errors import Busy, CaptureRefused
from pcapdaemon.events import Counts
from pcapdaemon.limits import CaptureLimits, StopReason
from pcapdaemon.plan import CapturePlan, InterfacePlan
from pcapdaemon.threads import call_in_loop, in_thread

PACKET_BUFFER_TIMEOUT_MS = 40
"""How long the kernel may hold packets back to hand over many at once. 0 would never hand over a block that is not full;
immediate mode falls back to TPACKET_V2, whose slots hold far fewer packets in the same buffer (libpcap pcap-linux.c)."""

OPTIMIZED_FILTER = 256
"""Capture filters up to this length are optimized: beyond, libpcap's optimizer may take seconds of CPU."""


@dataclass(frozen=True, slots=True)
class Armed:
    """What is known when the filter is set."""

    linktype: str
    snaplen: int
    at: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a capture ended; `times` of the first and last packet and `seconds` of its run; the savefile if it has packets."""

    reason: StopReason
    counts: Counts
    times: tuple[float, float]
    seconds: float
    error: str
    savefile: Savefile | None


class Session:
    """One capture on one interface, in a thread of its own. `stop` and `counts` may be used at any time."""

    def __init__(self, plan: CapturePlan, part: InterfacePlan, budget: MemoryBudget, settings: CaptureSettings) -> None:
        self.plan, self.part = plan, part
        self._budget, self._settings = budget, settings
        self._capture = Capture(part.interface.name, budget.pool)
        self._shutdown = False
        self._loop = asyncio.get_running_loop()
        self.armed: asyncio.Future[Armed] = self._loop.create_future()

    async def run(self) -> Stopped:
        """Capture until a limit is reached or `stop` is called. Raises CaptureRefused or Busy where it can't begin.

        `armed` is set when the capture has begun; it is cancelled where it never will.
        """
        try:
            return await in_thread(self._run)
        finally:
            self.armed.cancel()

    def stop(self, shutdown: bool = False) -> None:
        """End it soon, by somebody's wish or because the daemon ends; what was captured is kept."""
        self._shutdown = self._shutdown or shutdown
        self._capture.stop()

    def extend(self, limits: CaptureLimits) -> bool:
        """Make its limits at least these; False where it has not begun, or is over or about to be."""
        return self.armed.done() and not self.armed.cancelled() and self._capture.extend(**asdict(limits))

    def counts(self) -> Counts:
        """What it has so far."""
        capture = self._capture
        return Counts(capture.packets, capture.size if capture.packets else 0, *capture.stats)

    def _run(self) -> Stopped:
        buffer = 0
        try:
            buffer = self._budget.take_kernel_buffer(self._settings.buffer)
            return self._capture_into_memory(buffer)
        except MemoryError as error:
            raise Busy(str(error), "try again later") from None
        finally:
            self._capture.close()
            self._budget.give_kernel_buffer(buffer)

    def _capture_into_memory(self, buffer: int) -> Stopped:
        capture = self._capture
        capture.extend(**asdict(self.plan.limits))
        capture.open(
            snaplen=self.plan.snaplen,
            promiscuous=self._settings.promiscuous,
            buffer_size=buffer,
            buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
            loopback=self.part.interface.loopback,
        )
        expression = self.plan.capture_filter
        capture.set_filter(expression, len(expression) <= OPTIMIZED_FILTER)
        begun = time.monotonic()
        call_in_loop(self._loop, self._set_armed, Armed(capture.linktype, capture.snaplen, time.time()))
        return self._stopped(StopReason(capture.run()), time.monotonic() - begun)

    def _stopped(self, reason: StopReason, seconds: float) -> Stopped:
        capture = self._capture
        reason = StopReason.SHUTDOWN if self._shutdown and reason is StopReason.STOPPED else reason
        first, last = (microseconds / 1e6 for microseconds in capture.times)
        savefile = Savefile.of(capture.header, capture.take_blocks()) if capture.packets else None
        return Stopped(reason, self.counts(), (first, last), seconds, capture.error, savefile)

    def _set_armed(self, armed: Armed) -> None:
        if not self.armed.done():
            self.armed.set_result(armed)


async def try_out(session: Session) -> CaptureRefused | Busy | None:
    """Begin a capture and end it at once: only a live handle knows whether the filter fits the interface."""
    session.stop()
    try:
        await session.run()
    except (CaptureRefused, Busy) as error:
        return error
    return None
