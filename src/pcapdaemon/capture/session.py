"""Runs a plan on one interface, one recorder or one file, and keeps its packets in memory."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pcapdaemon.capture.live import CaptureSettings, LiveSource, SpareOf, no_spare
from pcapdaemon.capture.recorder import RecordedSource, Recorder
from pcapdaemon.capture.replay import ReplaySource
from pcapdaemon.capture.source import PacketSource, SourceOptions
from pcapdaemon.capture.target import Aim
from pcapdaemon.core.errors import Busy, CaptureRefused, refused_by_system
from pcapdaemon.core.limits import CaptureLimits, StopReason
from pcapdaemon.core.outcome import Counts, Lookback, Outcome, Place
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.merge import SharedLimits
from pcapdaemon.savefile import annotation
from pcapdaemon.savefile.packing import Captured, Taken, pack
from pcapdaemon.threads import call_in_loop, run_in_thread
from pcapdaemon.uptime import both_clocks

RecorderOf = Callable[[str], Recorder | None]


def no_recorder(_: str) -> None:
    """Return None: no interface has a recorder."""
    return


@dataclass(frozen=True, slots=True)
class Origins:
    """What captures may use instead of opening an interface: recorders, and open handles."""

    recorder_of: RecorderOf = no_recorder
    spare_of: SpareOf = no_spare


NOTHING_OPEN = Origins()
ENDS_OF_INTERFACES = (StopReason.INTERFACE_DOWN, StopReason.GONE)
NO_RECORDER = "this interface has no recorder ([[recorder]])"
RENAMED = "its device was renamed"
MORE_THAN_ALLOWED = "this node allows less ([general] maxlookback)"


SEEN_BY_POLICY = 256
"""Bytes of each packet that a recorder must keep if a policy filters what is read from it."""

LATEST = 1.0
"""Most seconds between the arrival of a message and its session; more is a step of the clock."""


def _since(arrived_at: float | None) -> float:
    """Return for how many seconds a message was being judged: a recorder has what came then."""
    late = time.time() - arrived_at if arrived_at else 0.0
    return late if 0.0 <= late <= LATEST else 0.0


@dataclass(frozen=True, slots=True)
class Armed:
    """What is known when the filter is set. `at` is that time, in seconds since the epoch."""

    linktype: str
    snaplen: int
    at: float


class Session:
    """One capture on one interface, in a thread of its own.

    `stop` and `counts` may be used at any time.

    If the interface has a recorder that keeps everything the capture needs, the capture reads from
    that, from now on or from before. With `shared`, it is one of several captures whose packets go
    into one file, and `number` is the number of its interface there.
    """

    def __init__(
        self,
        plan: CapturePlan,
        part: InterfacePlan,
        budget: MemoryBudget,
        settings: CaptureSettings,
        origins: Origins = NOTHING_OPEN,
        shared: SharedLimits | None = None,
        number: int = 0,
    ) -> None:
        self.plan, self.part = plan, part
        self._shared, self._number, self._origins = shared, number, origins
        self._budget, self._settings = budget, settings
        self._recorder = origins.recorder_of(part.interface.name)
        late = _since(plan.arrived_at)
        monotonic, wall = both_clocks()
        self._trigger_ns, self._trigger = monotonic - int(late * 1e9), wall / 1e9 - late
        self._window = plan.window(self._trigger)
        self._ago = self._trigger - self._window.trigger
        self._shutdown = self._stopping = self._trying = self._gone = False
        self._aim = Aim(part.interface)
        self._source = self._choose_source()
        self._loop = asyncio.get_running_loop()
        self.armed: asyncio.Future[Armed] = self._loop.create_future()

    @property
    def name(self) -> str:
        """The name of its interface."""
        return self.part.interface.name

    async def run(self) -> Captured:
        """Capture until a limit is reached or `stop` is called.

        Raises CaptureRefused or Busy if it can't begin.

        `armed` is set when the capture has begun, and cancelled if it never will.
        """
        taken = await self.take()
        return await run_in_thread(pack, self.plan, [taken], self._budget.pool)

    async def take(self) -> Taken:
        """Capture like `run`, but do not make a savefile yet."""
        try:
            return await run_in_thread(self._run)
        except OSError as error:
            raise refused_by_system(error) from error
        finally:
            self.armed.cancel()

    def stop(self, shutdown: bool = False, trying: bool = False) -> None:
        """End the capture soon, on request or because the daemon ends. Captured packets are kept.

        Use `trying`, before it runs, if only whether it can begin matters.
        """
        self._trying = self._trying or trying
        self._shutdown = self._shutdown or shutdown
        self._stopping = True
        self._source.stop()

    def end_if_gone(self) -> None:
        """End the capture if its target has ended: a namespace stays as long as its sockets."""
        if self._aim.look():
            self._gone = True
            self._source.stop()

    @property
    def is_running(self) -> bool:
        """Whether the capture has begun and its end is not decided yet."""
        return self.armed.done() and not self.armed.cancelled() and self._source.is_running

    def extend(self, limits: CaptureLimits) -> bool:
        """Raise the limits to at least these.

        Returns False if the capture has not begun, is over, or is about to be.
        """
        return self.is_running and self._source.extend(**asdict(self._within(limits)))

    def counts(self) -> Counts:
        """Return what the capture has so far."""
        source = self._source
        return Counts(source.packets, source.size if source.packets else 0, *source.stats)

    def _choose_source(self) -> PacketSource:
        interface, recorder = self.part.interface, self._recorder
        if interface.replay:
            return ReplaySource(interface.name, interface.replay, self._budget)
        if recorder is None:
            return self._live(NO_RECORDER)
        shares = self.plan.share_recorder and self._keeps_enough(recorder)
        if not (self._window.looks_back or shares):
            return self._live("")
        trigger = self._trigger_ns - int(self._ago * 1e9)
        recorded = recorder.source(self._budget, trigger, self._window.lookback)
        if recorded is None:
            return self._live(f"the recorder does not record: {recorder.reason or RENAMED}")
        if self.plan.stream:
            recorded.stream_to(self.plan.stream)
        return recorded

    def _live(self, nothing_recorded: str) -> LiveSource:
        return LiveSource(
            self.part.interface,
            self._budget,
            self._settings,
            nothing_recorded,
            self._origins.spare_of,
            self.plan.stream,
        )

    def _keeps_enough(self, recorder: Recorder) -> bool:
        kept = recorder.settings
        wide = kept.promiscuous or not self._settings.promiscuous
        # the filter of a policy must see the headers, however little is kept
        needed = max(self.plan.snaplen, SEEN_BY_POLICY if self.plan.required else 0)
        return wide and not kept.filter and kept.snaplen >= needed

    def _run(self) -> Taken:
        try:
            self._arm()
            return self._armed_run(self._source)
        except MemoryError as error:
            raise Busy(str(error), "try again later") from None
        finally:
            self._source.close()

    def _arm(self) -> None:
        source, options = self._source, self._options()
        if not isinstance(source, RecordedSource):
            source.arm(options)
            return
        try:
            source.arm(options)
            if not self.plan.stream:
                source.catch_up(self._trying)
        except CaptureRefused as error:
            if error.kind != "unrecorded":
                raise
            self._open_instead(source, str(error)).arm(options)

    def _open_instead(self, recorded: RecordedSource, reason: str) -> LiveSource:
        self._source = live = self._live(reason)
        recorded.close()
        if self._stopping:
            live.stop()
        return live

    def _options(self) -> SourceOptions:
        plan = self.plan
        options = SourceOptions(
            plan.capture_filter,
            plan.snaplen,
            self._within(plan.limits),
            untagged_filter=plan.untagged_filter,
            exclude=plan.exclude,
            required=plan.required,
            headers_only=plan.headers_only,
            names=plan.filter_names and not self.part.interface.namespace,
            most_packets=plan.most_packets,
            most_size=plan.most_size,
        )
        if self._shared:
            return replace(options, pcapng=True, shared=self._shared, number=self._number)
        return replace(
            options,
            pcapng=plan.pcapng,
            overhead=annotation.overhead(plan, [self.part]) if plan.pcapng else 0,
        )

    def _within(self, limits: CaptureLimits) -> CaptureLimits:
        """Return limits that end with the window; one of the past is over after a microsecond."""
        duration = min(limits.duration, max(self._window.duration, 1e-6))
        return replace(limits, duration=duration)

    def _armed_run(self, source: PacketSource) -> Taken:
        begun = self._trigger_ns if isinstance(source, RecordedSource) else time.monotonic_ns()
        call_in_loop(
            self._loop, self._set_armed, Armed(source.linktype, source.snaplen, time.time())
        )
        self._aim.begin()
        if self.plan.stream and isinstance(source, RecordedSource):
            source.catch_up(skip=False)  # not before: who reads it waits for the answer
        reason = StopReason(source.run())
        seconds = (time.monotonic_ns() - begun) / 1e9
        return Taken(
            self.part, self._outcome(source, reason, seconds), source.header, source.take_blocks()
        )

    def _outcome(self, source: PacketSource, reason: StopReason, seconds: float) -> Outcome:
        if reason is StopReason.STOPPED and (self._shutdown or self._gone):
            reason = StopReason.SHUTDOWN if self._shutdown else StopReason.GONE
        reason = self._aim.reason(reason, source.error)
        first, last = source.times
        return Outcome(
            **asdict(self.counts()),
            stop_reason=reason,
            seconds=seconds,
            trigger=self._window.trigger,
            first_packet_at=first / 1e9 if source.packets else None,
            last_packet_at=last / 1e9 if source.packets else None,
            lookback=self._past(source) if self._window.looks_back else None,
            down=0.0 if reason in ENDS_OF_INTERFACES or self._ago else round(source.down, 3),
            filtered_in=Place.KERNEL if source.filtered_in_kernel else Place.PROCESS,
            error=source.error,
            **self._aim.facts(),
        )

    def _past(self, source: PacketSource) -> Lookback:
        found, cut = source.past(self._window.lookback), self._window.cut
        if not cut:
            return found
        reason = "; ".join(filter(None, (MORE_THAN_ALLOWED, found.reason)))
        return replace(found, asked=round(found.asked + cut, 3), reason=reason)

    def _set_armed(self, armed: Armed) -> None:
        if not self.armed.done():
            self.armed.set_result(armed)
