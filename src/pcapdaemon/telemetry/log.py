"""Writes events as log lines to stderr and syslog.

On a terminal, stderr is for people, otherwise it is JSON.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog

from pcapdaemon import __version__
from pcapdaemon.core.admission import Tally
from pcapdaemon.core.events import (
    CaptureEvent,
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    DeliveryDelayed,
    Event,
    PacketsLogged,
    RequestAccepted,
    RequestCancelled,
    RequestEvent,
    RequestFinished,
    RequestJoined,
    RequestLogged,
    RequestRejected,
    RequestReturned,
    RequestSeenBefore,
    RequestTriedOut,
    SavefileDelivered,
    SavefileLost,
    SavefileNotSpooled,
    SavefileSpooled,
)
from pcapdaemon.core.node_events import (
    AlertJudged,
    AlertOutcome,
    ClocksDiffer,
    ConfigurationRefused,
    ConfigurationReloaded,
    DestinationNotReady,
    RecorderChanged,
    ResultsDelayed,
    ResultsLost,
    SavefileLeftSpool,
    SavefileResumed,
    SourceConnected,
    SourceDisconnected,
    SpoolFileRefused,
    TokenRefused,
)
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.telemetry.output import (
    WAITING_LINES,
    CountingListener,
    DroppingHandler,
    Syslog,
    configure,
    make_outputs,
)

REFUSALS_A_MINUTE = 60
"""Most refusals of each source that are logged in a minute. The next line counts the others."""

log = structlog.get_logger("pcapdaemon")


class Telemetry:
    """Sets up logging for the process, and writes a line for each event."""

    def __init__(self, syslog: Syslog | None) -> None:
        self._syslog = syslog
        self._tally = Tally(REFUSALS_A_MINUTE)
        self._open()

    def configure(self, syslog: Syslog | None) -> None:
        """Write to stderr and this syslog from now on.

        What waits for the old outputs is written in the background.
        """
        if syslog == self._syslog:
            return
        with contextlib.suppress(queue.Full):  # its reader stalls, so the rest is lost anyway
            self._listener.enqueue_sentinel()
        self._syslog = syslog
        self._open()

    def started(self, sources: list[str], destinations: list[str], warnings: Sequence[str]) -> None:
        """Log the version, the sources, the destinations and the warnings, once at the start."""
        log.info("started", version=__version__, sources=sources, destinations=destinations)
        for warning in warnings:
            log.warning(warning)

    def stopped(self) -> None:
        """Write what waits; blocks for at most a second.

        A reader that stalls must not keep the daemon from stopping.
        """
        log.info("stopped", log_lines_dropped=self._handler.dropped)
        deadline = time.monotonic() + 1
        pause = threading.Event()  # not time.sleep, which fails under some fakes of the clock
        while not self._queue.empty() and time.monotonic() < deadline:
            pause.wait(0.005)

    def on_event(self, event: Event) -> None:
        """Log an event, with the id of its request; never blocks."""
        match event:
            case RequestRejected() | TokenRefused():
                self._refused(event)
            case AlertJudged():
                self._alert(event)
            case RequestEvent():
                _on_request_event(event)
            case CaptureEvent():
                _on_capture_event(event)
            case _:
                _on_node_event(event)

    def _refused(self, event: RequestRejected | TokenRefused) -> None:
        """Log a refusal, unless there were many of its source; then only count it."""
        key = event.source if isinstance(event, RequestRejected) else "token"
        before = self._tally.passes(key, time.monotonic())
        if before is not None:
            _on_refusal(event, {"similar_before": before} if before else {})

    def _alert(self, event: AlertJudged) -> None:
        """Log what became of an alert, unless there were many; those without a match, never."""
        if event.outcome is AlertOutcome.NO_MATCH:
            return
        before = self._tally.passes(f"{event.outcome} {event.trigger}", time.monotonic())
        if before is not None:
            _on_alert(event, {"similar_before": before} if before else {})

    def _open(self) -> None:
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(WAITING_LINES)
        self._handler = DroppingHandler(self._queue)
        outputs, problem = make_outputs(self._syslog)
        self._listener = CountingListener(self._handler, *outputs)
        self._listener.start()
        configure(self._handler)
        if problem:
            log.warning("lines can't be sent to syslog", reason=problem)


def _on_node_event(event: Event) -> None:
    match event:
        case ClocksDiffer(source, seconds):
            words = (
                "the clock of this node, the broker or the requester is off, or the request was"
                " delayed on its way"
            )
            log.warning("clocks differ", source=source, seconds=round(seconds), meaning=words)
        case SourceConnected(source):
            log.info("source connected", source=source)
        case SourceDisconnected(source, reason):
            log.warning("source not connected", source=source, reason=reason)
        case DestinationNotReady(destination, reason):
            log.warning("destination not ready", destination=destination, reason=reason)
        case SavefileResumed(ids, _, _, _, stopped):
            facts = {
                "interface": stopped.interface,
                "file_name": stopped.file_name,
                "pending": list(stopped.pending),
            }
            log.info("delivery resumed from the spool", id=ids[0], **facts)
        case SavefileLeftSpool(ids, interface):
            log.info("savefile left the spool", id=ids[0], interface=interface)
        case SpoolFileRefused(name, reason, quarantined):
            what = "quarantined" if quarantined else "ignored"
            log.warning(f"file in the spool {what}", file_name=name, reason=reason)
        case RecorderChanged(interface, ""):
            log.info("recorder records", interface=interface)
        case RecorderChanged(interface, reason):
            log.warning("recorder does not record", interface=interface, reason=reason)
        case _:
            _on_other_event(event)


def _on_other_event(event: Event) -> None:
    match event:
        case ResultsDelayed(place, reason, attempt):
            if attempt <= 1:
                log.warning("results can't be sent now", place=place, reason=reason)
        case ResultsLost(place, number, reason):
            log.warning("results could not be sent", place=place, number=number, reason=reason)
        case ConfigurationReloaded(warnings):
            log.info("configuration reloaded", warnings=list(warnings))
        case ConfigurationRefused(problems):
            log.error("configuration refused, the old one is kept", problems=list(problems))


def _on_refusal(event: RequestRejected | TokenRefused, more: dict[str, int]) -> None:
    """Log a refusal. `more` has the number of those that were not logged since the last one."""
    if isinstance(event, TokenRefused):
        log.warning("request without a valid token", client=event.client, **more)
        return
    problems = [str(problem) for problem in event.problems]
    facts = {"id": event.id, "source": event.source, "kind": event.kind}
    log.warning("request rejected", **facts, problems=problems, **more)


def _on_alert(event: AlertJudged, more: dict[str, int]) -> None:
    facts = {"trigger": event.trigger, "outcome": event.outcome, "id": event.id}
    words = {"reason": event.reason, "notes": list(event.notes)}
    said = {name: value for name, value in {**facts, **words}.items() if value}
    if event.outcome in (AlertOutcome.SENT, AlertOutcome.RESOLVED, AlertOutcome.COOLDOWN):
        log.info("alert judged", **said, **more)
    else:
        log.warning("alert without a capture", **said, **more)


def _on_request_event(event: RequestEvent) -> None:
    match event:
        case RequestAccepted(source, plan, _, warnings):
            names = [part.interface.name for part in plan.captures]
            accepted: dict[str, Any] = {
                ON_THE_WIRE["interfaces"]: names,
                ON_THE_WIRE["capture_filter"]: plan.capture_filter,
            }
            log.info("request accepted", id=plan.id, source=source, **accepted)
            for warning in warnings:
                log.warning("request accepted with a warning", id=plan.id, warning=warning)
        case RequestLogged(request_id, source, body):
            log.info("request received", id=request_id, source=source, body=body)
        case RequestJoined(request_id, source, joined):
            log.info("request joined another", id=request_id, source=source, joined=joined)
        case RequestSeenBefore(request_id, source):
            log.info("request seen before", id=request_id, source=source)
        case RequestReturned(request_id, source, reason):
            log.info("request returned to its source", id=request_id, source=source, reason=reason)
        case RequestCancelled(request_id, source):
            log.info("request cancelled", id=request_id, source=source)
        case RequestTriedOut(request_id, source):
            log.info("request tried out", id=request_id, source=source)
        case RequestFinished(request_id):
            log.info("request finished", id=request_id)


def _on_capture_event(event: CaptureEvent) -> None:
    where = {"id": event.id, "interface": event.interface}
    match event:
        case CaptureStarted():
            log.info(
                "capture started",
                **where,
                linktype=event.linktype,
                **{ON_THE_WIRE["snaplen"]: event.snaplen},
            )
        case CaptureFailed():
            log.warning(
                "capture failed", **where, reason=event.reason, hint=event.hint, kind=event.kind
            )
        case CaptureStopped():
            log.info("capture stopped", id=event.id, **event.as_json())
        case PacketsLogged():
            for line in event.lines:
                log.info("packet", **where, packet=line)
        case _:
            _on_savefile_event(event, where)


def _on_savefile_event(event: CaptureEvent, where: dict[str, str]) -> None:
    match event:
        case SavefileDelivered():
            seconds, since_last = round(event.seconds, 3), round(event.since_last_packet, 3)
            words = {"destination": event.destination, "where": event.receipt.where}
            log.info(
                "savefile delivered",
                **where,
                **words,
                seconds=seconds,
                after_last_packet=since_last,
            )
        case DeliveryDelayed():
            words = {"destination": event.destination, "reason": event.reason}
            log.warning("delivery delayed", **where, **words, attempt=event.attempt)
        case SavefileSpooled():
            words = {"file_name": event.file_name, "reason": event.reason}
            log.warning(
                "savefile waits in the spool", **where, **words, pending=list(event.pending)
            )
        case SavefileNotSpooled():
            meaning = "it is lost if the daemon is killed before it is delivered"
            log.warning(
                "savefile not in the spool",
                **where,
                file_name=event.file_name,
                reason=event.reason,
                meaning=meaning,
            )
        case SavefileLost():
            words = {
                "destination": event.destination,
                "reason": event.reason,
                "file_name": event.file_name,
            }
            log.error("savefile lost", **where, **words, packets=event.packets)
