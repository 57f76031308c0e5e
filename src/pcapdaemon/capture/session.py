"""One plan on one interface: from opening it, or its recorder, to a savefile in memory."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pydantic import Field

from pcapdaemon.capture.recorder import PACKET_BUFFER_TIMEOUT_MS, Recorder
from pcapdaemon.core.errors import Busy, CaptureRefused
from pcapdaemon.core.limits import CaptureLimits, StopReason
from pcapdaemon.core.outcome import Counts, Lookback
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.core.section import Section
from pcapdaemon.native.live import LiveCapture
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.merge import SharedLimits
from pcapdaemon.native.recorded import RecordedCapture
from pcapdaemon.savefile import annotation
from pcapdaemon.savefile.packing import NO_ROOM, Stopped, Taken, pack
from pcapdaemon.threads import call_in_loop, run_in_thread

OPTIMIZED_FILTER = 256
"""Capture filters up to this length are optimized: beyond, libpcap's optimizer may take seconds of CPU."""

RecorderOf = Callable[[str], Recorder | None]
NO_RECORDER = "this interface has no recorder ([[recorder]])"


class CaptureSettings(Section):
    """How captures are made."""

    buffer: int = Field(
        8 * 1024**2,
        ge=128 * 1024,
        lt=2**31,
        description="The kernel's capture buffer per capture, bytes; counts in `memory`.",
    )
    promiscuous: bool = Field(True, description="Take frames for other hosts too; `any` can't.")


@dataclass(frozen=True, slots=True)
class Armed:
    """What is known when the filter is set."""

    linktype: str
    snaplen: int
    at: float


class Session:
    """One capture on one interface, in a thread of its own. `stop` and `counts` may be used at any time.

    Where the interface has a recorder that keeps all that is wanted, it reads from that one, from now on or from before. With
    `together` it is one of several whose packets come into one file, where its interface has this number.
    """

    def __init__(
        self,
        plan: CapturePlan,
        part: InterfacePlan,
        budget: MemoryBudget,
        settings: CaptureSettings,
        recorder: Recorder | None = None,
        shared: SharedLimits | None = None,
        number: int = 0,
    ) -> None:
        self.plan, self.part = plan, part
        self._shared, self._number = shared, number
        self._budget, self._settings, self._recorder = budget, settings, recorder
        self._trigger_ns, self._trigger = time.monotonic_ns(), time.time()
        self._shutdown = self._stopping = self._trying = False
        self._nothing_recorded = "" if recorder else NO_RECORDER
        self._capture: LiveCapture | RecordedCapture = self._recorded() or LiveCapture(part.interface.name, budget.pool)
        self._loop = asyncio.get_running_loop()
        self.armed: asyncio.Future[Armed] = self._loop.create_future()

    @property
    def name(self) -> str:
        """Of its interface."""
        return self.part.interface.name

    async def run(self) -> Stopped:
        """Capture until a limit is reached or `stop` is called. Raises CaptureRefused or Busy where it can't begin.

        `armed` is set when the capture has begun; it is cancelled where it never will.
        """
        taken = await self.take()
        return await run_in_thread(pack, self.plan, [taken], self._budget.pool)

    async def take(self) -> Taken:
        """The same, but what was captured is not made a savefile yet."""
        try:
            return await run_in_thread(self._run)
        finally:
            self.armed.cancel()

    def stop(self, shutdown: bool = False, trying: bool = False) -> None:
        """End it soon, by somebody's wish or because the daemon ends; what was captured is kept.

        `trying`, before it runs: nothing is wanted of it but whether it can begin.
        """
        self._trying = self._trying or trying
        self._shutdown = self._shutdown or shutdown
        self._stopping = True
        self._capture.stop()

    @property
    def is_running(self) -> bool:
        """Whether it has begun, and its end is not decided yet."""
        return self.armed.done() and not self.armed.cancelled() and self._capture.is_running

    def extend(self, limits: CaptureLimits) -> bool:
        """Make its limits at least these; False where it has not begun, or is over or about to be."""
        return self.is_running and self._capture.extend(**asdict(limits))

    def counts(self) -> Counts:
        """What it has so far."""
        capture = self._capture
        return Counts(capture.packets, capture.size if capture.packets else 0, *capture.stats)

    def _recorded(self) -> RecordedCapture | None:
        """A capture from the recorder, where there is one that has what is wanted. Packets wait for it from here on."""
        recorder, plan = self._recorder, self.plan
        if recorder is None or not (plan.lookback or (plan.share_recorder and self._keeps_enough(recorder))):
            return None
        capture = recorder.capture(self._budget.pool, self._trigger_ns, plan.lookback)
        if capture is None:
            self._nothing_recorded = f"the recorder does not record: {recorder.reason}"
        return capture

    def _keeps_enough(self, recorder: Recorder) -> bool:
        kept = recorder.settings
        wide = kept.promiscuous or not self._settings.promiscuous
        return wide and not kept.filter and kept.snaplen >= self.plan.snaplen

    def _run(self) -> Taken:
        try:
            return self._capture_in_some_way(self._capture)
        except MemoryError as error:
            raise Busy(str(error), "try again later") from None
        finally:
            self._capture.close()

    def _capture_in_some_way(self, capture: LiveCapture | RecordedCapture) -> Taken:
        if isinstance(capture, LiveCapture):
            return self._capture_live(capture)
        try:
            return self._read_on(capture)
        except CaptureRefused as error:
            if error.kind != "unrecorded":
                raise
            self._nothing_recorded = str(error)
        return self._capture_live(self._open_instead(capture))

    def _open_instead(self, recorded: RecordedCapture) -> LiveCapture:
        self._capture = capture = LiveCapture(self.part.interface.name, self._budget.pool)
        recorded.close()
        if self._stopping:
            capture.stop()
        return capture

    def _read_on(self, capture: RecordedCapture) -> Taken:
        plan = self.plan
        capture.extend(**asdict(plan.limits))
        free = max(0, self._budget.limit - self._budget.used)  # half of it is left to others
        capture.keep_within(packets=plan.most_packets, size=plan.most_size, past=free // 2, snaplen=plan.snaplen)
        self._choose_format(capture)
        self._set_filter(capture)
        if self._trying:
            capture.skip_past()
        capture.catch_up()
        return self._armed_run(capture, self._trigger_ns)

    def _capture_live(self, capture: LiveCapture) -> Taken:
        buffer = self._budget.take_kernel_buffer(self._settings.buffer)
        try:
            capture.extend(**asdict(self.plan.limits))
            capture.open(
                snaplen=self.plan.snaplen,
                promiscuous=self._settings.promiscuous,
                buffer_size=buffer,
                buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
                loopback=self.part.interface.loopback,
            )
            self._choose_format(capture)
            self._set_filter(capture)
            return self._armed_run(capture, time.monotonic_ns())
        finally:
            capture.close()
            self._budget.give_kernel_buffer(buffer)

    def _choose_format(self, capture: LiveCapture | RecordedCapture) -> None:
        if self._shared:
            capture.write_as(pcapng=True, overhead=0, number=self._number)
            capture.share_limits(self._shared)
        elif self.plan.pcapng:
            capture.write_as(pcapng=True, overhead=annotation.overhead(self.plan, [self.part]))

    def _set_filter(self, capture: LiveCapture | RecordedCapture) -> None:
        expression = self.plan.capture_filter
        capture.set_filter(expression, len(expression) <= OPTIMIZED_FILTER)

    def _armed_run(self, capture: LiveCapture | RecordedCapture, begun: int) -> Taken:
        call_in_loop(self._loop, self._set_armed, Armed(capture.linktype, capture.snaplen, time.time()))
        reason = StopReason(capture.run())
        seconds = (time.monotonic_ns() - begun) / 1e9
        if self._shutdown and reason is StopReason.STOPPED:
            reason = StopReason.SHUTDOWN
        lookback = self._lookback(capture)  # before its blocks are gone
        return Taken(
            part=self.part,
            reason=reason,
            counts=self.counts(),
            times=capture.times,
            seconds=seconds,
            error=capture.error,
            header=capture.header,
            blocks=capture.take_blocks(),
            trigger=self._trigger,
            lookback=lookback,
        )

    def _lookback(self, capture: LiveCapture | RecordedCapture) -> Lookback | None:
        asked, recorder = self.plan.lookback, self._recorder
        if not asked:
            return None
        if recorder is None or not isinstance(capture, RecordedCapture):
            return Lookback(asked, 0.0, 0, self._nothing_recorded)
        coverage = recorder.coverage(self._trigger_ns, asked, capture.recorded_until)
        packets, given_up = capture.past
        covered, reasons = coverage.seconds, [coverage.reason, *self._narrowed(recorder)]
        if given_up:
            covered = max(0.0, min(covered, self._trigger - capture.times[0] / 1e9)) if packets else 0.0
            reasons.append(NO_ROOM)
        return Lookback(asked, round(covered, 3), packets, "; ".join(reason for reason in reasons if reason))

    def _narrowed(self, recorder: Recorder) -> list[str]:
        kept = recorder.settings
        words = [f"the recorder keeps only what matches {kept.filter!r}"] if kept.filter else []
        return words + ([f"the recorder keeps {kept.snaplen} bytes of a packet"] if kept.snaplen < self.plan.snaplen else [])

    def _set_armed(self, armed: Armed) -> None:
        if not self.armed.done():
            self.armed.set_result(armed)
