"""The flight recorder keeps what was on the wire before a request.

Each recorder keeps the last packets of one interface in a ring of blocks. It runs in a thread of
its own, which no capture can delay, and captures read from it. If its interface is missing, it
waits for the interface and then continues.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from pydantic import Field, model_validator

from pcapdaemon.capture.rates import rates
from pcapdaemon.capture.source import PACKET_BUFFER_TIMEOUT_MS, SourceOptions, prepare
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.filters import without
from pcapdaemon.core.interface import Coverage, RecordedRates, RecorderStatus
from pcapdaemon.core.limits import MAX_SNAPLEN
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.core.section import Section
from pcapdaemon.core.target import Pods
from pcapdaemon.core.units import Bytes, Time
from pcapdaemon.native.memory import BLOCK_SIZE, MemoryBudget
from pcapdaemon.native.recorded import RecordedCapture
from pcapdaemon.native.recording import Recording
from pcapdaemon.native.rtnetlink import find_link
from pcapdaemon.savefile.packing import NO_ROOM
from pcapdaemon.threads import started

SECOND = 1_000_000_000
TRY_EVERY, TRY_REFUSED_EVERY = 0.5, 5.0
"""Seconds between attempts to open an interface: a missing one, and one that was refused."""

MOST_GAPS = 100
NOT_BEGUN = "not started yet"


class RecorderSettings(Section):
    """One `[[recorder]]`: an interface whose last packets are kept."""

    interface: str | None = Field(
        None, min_length=1, description="Interface of this host. It may appear later."
    )
    alias: str | None = Field(
        None,
        min_length=1,
        description="Alias, instead of `interface`. Each of its interfaces gets a recorder.",
    )
    pods: Pods = Field(
        (),
        description=(
            "Kubernetes pods, instead of `interface`, as `NAMESPACE/NAME` with globs: each of their"
            " interfaces on this host gets a recorder, as pods come and go."
        ),
    )
    total: Bytes = Field(
        128 * 1024**2,
        ge=8 * 1024**2,
        description="With `pods`: bytes for all their recorders. More pods have no recorder.",
    )
    seconds: Time = Field(
        120,
        gt=0,
        le=86400,
        description="How long packets are kept, if `memory` is large enough.",
    )
    memory: Bytes = Field(
        64 * 1024**2,
        ge=8 * 1024**2,
        description=(
            "Bytes for the packets and the kernel's buffer, allocated at startup. They are not"
            " part of `[general] memory`."
        ),
    )
    snaplen: Bytes = Field(
        MAX_SNAPLEN, gt=0, le=MAX_SNAPLEN, description="Bytes kept of each packet."
    )
    filter: str = Field(
        "", max_length=1024, description="Capture filter. Only matching packets are kept."
    )
    promiscuous: bool = Field(
        True, description="Also capture frames for other hosts. Not on `any`."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(map(bool, (self.interface, self.alias, self.pods))) != 1:
            raise ValueError("set exactly one of interface, alias and pods")
        if self.pods and self.total < self.memory:
            raise ValueError(f"total ({self.total}) must be at least memory ({self.memory})")
        return self


class Recorder:
    """The recorder of one interface. `reason` says why it does not record.

    Its thread calls `on_change` with the interface and "" when it begins, or with the reason when
    it has to stop. Packets that `exclude` matches are not recorded.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        interface: str,
        buffer: int,
        on_change: Callable[[str, str], None],
        exclude: str = "",
    ) -> None:
        self.settings, self.interface, self.exclude = settings, interface, exclude
        self._buffer = min(buffer, settings.memory // 4)
        self._on_change = on_change
        self._recording = self._new_recording()
        self._closing = threading.Event()
        self.reason = NOT_BEGUN
        self._began = 0
        self._gaps: deque[list[int]] = deque(maxlen=MOST_GAPS)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to record as soon as the interface is present."""
        self._thread = started(self._work, f"pcapdaemon-recorder-{self.interface}")
        if self._thread is None:
            self._changed("the system has no room for its thread; reload the configuration")

    def close(self) -> None:
        """Stop recording. Captures that read from it end, as if the interface had gone.

        Blocks for some milliseconds.
        """
        self._closing.set()
        self._recording.stop()
        if self._thread:
            self._thread.join()

    @property
    def is_open(self) -> bool:
        """Whether it records now."""
        return self._recording.is_open

    @property
    def device(self) -> int:
        """The index of the device that it records; 0 if it does not record, and for `any`."""
        return self._recording.device if self.is_open else 0

    @property
    def captures(self) -> int:
        """Number of captures that read from it."""
        return self._recording.followers

    def source(
        self, budget: MemoryBudget, trigger: int, lookback: float
    ) -> "RecordedSource | None":
        """Return a source of packets from `lookback` seconds before `trigger` (monotonic ns) on.

        Returns None if it does not record.
        """
        recording = self._recording
        if not recording.is_open or not self._is_current(recording):
            return None
        since = trigger - int(min(lookback, self.settings.seconds) * SECOND)
        return RecordedSource(self, recording, budget, trigger, since)

    def coverage(
        self, trigger: int, lookback: float, dropped_until: int, began: int = 0
    ) -> Coverage:
        """Return how many of the `lookback` seconds before its trigger a capture has, and why.

        The capture began at `began`, 0 if at its trigger. `dropped_until` is the moment up to which
        the recorder had dropped packets then.
        """
        wanted = trigger - int(lookback * SECOND)
        kept = self.settings.seconds
        limits = {
            wanted: "",
            (began or trigger)
            - kept * SECOND: f"the recorder keeps {kept} s ([[recorder]] seconds)",
            self._began: "the recorder began later",
            dropped_until: (
                f"the recorder's memory was full ([[recorder]] memory = {self.settings.memory})"
            ),
        }
        begin = min(max(limits), trigger)
        away = sum(
            max(0, min(end or trigger, trigger) - max(start, begin))
            for start, end in tuple(self._gaps)
        )
        reasons = [limits[max(limits)]] if begin > wanted else []
        reasons += [f"the interface was unavailable for {away / SECOND:.1f} s"] if away else []
        return Coverage((trigger - begin - away) / SECOND, "; ".join(reasons))

    def status(self) -> RecorderStatus:
        """Return what the API and `pcapdaemon recorders` show of it."""
        recording, settings = self._recording, self.settings
        size, dropped_until = recording.kept()
        packets, _, dropped, by_interface, missed, cpu = recording.counters
        now = time.monotonic_ns()
        covered = (
            self.coverage(now, settings.seconds, dropped_until).seconds if self._began else 0.0
        )
        return RecorderStatus(
            interface=self.interface,
            recording=recording.is_open,
            reason=self.reason,
            linktype=recording.linktype,
            snaplen=recording.snaplen or settings.snaplen,
            capture_filter=settings.filter,
            seconds=settings.seconds,
            memory=settings.memory,
            covered=round(covered, 3),
            bytes=size,
            packets=packets,
            dropped=dropped + missed,
            dropped_by_interface=by_interface,
            captures=recording.followers,
            cpu=cpu / SECOND,
        )

    def rates(self) -> RecordedRates:
        """Return what it has over time. Blocks for milliseconds."""
        return rates(self._recording, self._began, self.settings.seconds)

    def down(self, trigger: int) -> float:
        """Return for how many seconds since `trigger` (monotonic ns) the interface was down."""
        now = time.monotonic_ns()
        spans = tuple(self._gaps)
        return sum(max(0, (end or now) - max(start, trigger)) for start, end in spans) / SECOND

    def _is_current(self, recording: Recording) -> bool:
        # Between the renaming of a device and the recorder's next turn, its name may be another's.
        link = find_link(self.interface) if recording.device else None
        return not recording.device or (link is not None and link.index == recording.device)

    def _new_recording(self) -> Recording:
        return Recording(
            self.interface, self.settings.memory - self._buffer, BLOCK_SIZE, self.settings.seconds
        )

    def _work(self) -> None:
        while not self._closing.is_set():
            pause = self._open()
            if pause:
                self._closing.wait(pause)
            else:
                self._record()

    def _open(self) -> float:
        """Open the interface; return 0, or the seconds after which to try again."""
        try:
            return self._try_to_open()
        except CaptureRefused as error:
            self._changed(str(error))
            return TRY_EVERY if error.kind == "interface" else TRY_REFUSED_EVERY
        except (MemoryError, OSError) as error:
            self._changed(f"{error}")
            return TRY_REFUSED_EVERY

    def _try_to_open(self) -> float:
        try:
            return self._open_with(without(self.settings.filter, self.exclude))
        except CaptureRefused as error:
            if error.kind != "filter" or not self.exclude:
                raise
        # Packets of this linktype can't match the exclusion: on nlmon, none is TCP.
        return self._open_with(self.settings.filter)

    def _open_with(self, capture_filter: str) -> float:
        same = self._recording.open(
            capture_filter,
            snaplen=self.settings.snaplen,
            promiscuous=self.settings.promiscuous,
            buffer_size=self._buffer,
            buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
            loopback=self.interface == "lo",
        )
        if same:
            return 0
        # The name now belongs to another device. A file must not contain packets of both.
        self._recording, self._began = self._new_recording(), 0
        self._gaps.clear()
        return TRY_EVERY

    def _record(self) -> None:
        now = time.monotonic_ns()
        if self._gaps and not self._gaps[-1][1]:
            self._gaps[-1][1] = now
        self._began = self._began or now
        self._changed("")
        word = self._recording.run()
        while word in ("link-down", "link-up"):
            self._follow_link(word == "link-down")
            word = self._recording.run()
        if not (self._gaps and not self._gaps[-1][1]):
            self._gaps.append([time.monotonic_ns(), 0])
        if not self._closing.is_set():
            self._changed(
                self._recording.error if word == "error" else "the interface went down or away"
            )

    def _follow_link(self, is_down: bool) -> None:
        now = time.monotonic_ns()
        if is_down:
            self._gaps.append([now, 0])
        elif self._gaps:
            self._gaps[-1][1] = now
        self._changed("the interface is down" if is_down else "")

    def _changed(self, reason: str) -> None:
        # Once per outage, because "went down" and "No such device" are the same outage.
        changed = self.reason == NOT_BEGUN or (reason == "") != (self.reason == "")
        self.reason = reason
        if changed:
            self._on_change(self.interface, reason)


class RecordedSource(RecordedCapture):
    """Packets from before the trigger and later ones from a recorder, in one stream.

    `trigger` and `since` are monotonic nanoseconds.
    """

    def __new__(
        cls,
        recorder: Recorder,
        recording: Recording,
        budget: MemoryBudget,
        trigger: int,
        since: int,
    ) -> Self:
        """Enter the recording.

        From here on packets wait for this source, because compiling its filter may take a while.
        """
        return super().__new__(
            cls,
            recording,
            budget.pool,
            trigger=trigger,
            since=since,
            hold_ms=PACKET_BUFFER_TIMEOUT_MS,
        )

    def __init__(
        self,
        recorder: Recorder,
        recording: Recording,
        budget: MemoryBudget,
        trigger: int,
        since: int,
    ) -> None:
        self._recorder, self._budget, self._trigger = recorder, budget, trigger
        now = time.monotonic_ns()
        # a trigger in the last second is now: its message was judged meanwhile
        self._began, self._wanted_snaplen = now if now - trigger > SECOND else 0, 0

    def arm(self, options: SourceOptions) -> None:
        """Set the filter.

        Raises CaptureRefused of kind "unrecorded" if it tests what recorded packets do not contain.
        """
        free = max(0, self._budget.limit - self._budget.used)  # half of it stays free for others
        self._wanted_snaplen = options.snaplen
        self.keep_within(
            packets=options.most_packets,
            size=options.most_size,
            past=free // 2,
            snaplen=options.snaplen,
        )
        prepare(self, options)

    @property
    def down(self) -> float:
        """Return for how many seconds after the trigger the interface was down."""
        return self._recorder.down(self._trigger)

    def past(self, asked: float) -> Lookback:
        """Return what it has from before the trigger, and why that is not all."""
        coverage = self._recorder.coverage(self._trigger, asked, self.recorded_until, self._began)
        packets, evicted = self.from_before
        covered, reasons = coverage.seconds, [coverage.reason, *self._narrowed()]
        if evicted:
            trigger = time.time() - (time.monotonic_ns() - self._trigger) / 1e9
            covered = max(0.0, min(covered, trigger - self.times[0] / 1e9)) if packets else 0.0
            reasons.append(NO_ROOM)
        return Lookback(
            asked, round(covered, 3), packets, "; ".join(reason for reason in reasons if reason)
        )

    def _narrowed(self) -> list[str]:
        kept = self._recorder.settings
        words = (
            [f"the recorder keeps only packets that match {kept.filter!r}"] if kept.filter else []
        )
        return words + (
            [f"the recorder keeps only {kept.snaplen} bytes of each packet"]
            if kept.snaplen < self._wanted_snaplen
            else []
        )
