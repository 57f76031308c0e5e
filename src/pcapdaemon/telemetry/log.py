"""Writes events as log lines to stderr and syslog.

On a terminal, stderr is for people, otherwise it is JSON.
"""

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Mapping, MutableMapping, Sequence
from logging.handlers import QueueHandler, QueueListener, SysLogHandler
from pathlib import Path
from typing import Any

import stamina.instrumentation
import structlog
from pydantic import Field

from pcapdaemon import __version__
from pcapdaemon.core.events import (
    CaptureEvent,
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    ClocksDiffer,
    ConfigurationRefused,
    ConfigurationReloaded,
    DeliveryDelayed,
    DestinationNotReady,
    Event,
    PacketsLogged,
    RecorderChanged,
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
    ResultsLost,
    SavefileDelivered,
    SavefileLeftSpool,
    SavefileLost,
    SavefileNotSpooled,
    SavefileResumed,
    SavefileSpooled,
    SourceConnected,
    SourceDisconnected,
    SpoolFileRefused,
)
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable

WAITING_LINES = 20_000
"""Most log lines that wait for a slow reader. More are dropped and counted.

Nothing waits for the log.
"""

log = structlog.get_logger("pcapdaemon")


class Syslog(Section):
    """`[syslog]`: where the log goes in addition to stderr."""

    priority: int = Field(
        25, ge=0, le=191, description="Facility * 8 + severity, the same for every line."
    )
    tag: str = Field("pcapdaemon", min_length=1, description="Name of the program in each line.")
    address: str = Field(
        "/dev/log", min_length=1, description="Path of the socket, or `host:port` for UDP."
    )


class Telemetry:
    """Sets up logging for the process, and writes a line for each event."""

    def __init__(self, syslog: Syslog | None) -> None:
        self._syslog = syslog
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
            case RequestEvent():
                _on_request_event(event)
            case CaptureEvent():
                _on_capture_event(event)
            case _:
                _on_node_event(event)

    def _open(self) -> None:
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(WAITING_LINES)
        self._handler = _DroppingHandler(self._queue)
        outputs, problem = _outputs(self._syslog)
        self._listener = QueueListener(self._queue, *outputs)
        self._listener.start()
        _configure(self._handler)
        if problem:
            log.warning("no syslog", reason=problem)


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
        case ResultsLost(place, number, reason):
            log.warning("results could not be sent", place=place, number=number, reason=reason)
        case ConfigurationReloaded(warnings):
            log.info("configuration reloaded", warnings=list(warnings))
        case ConfigurationRefused(problems):
            log.error("configuration refused, the old one is kept", problems=list(problems))


def _on_request_event(event: RequestEvent) -> None:
    match event:
        case RequestRejected(request_id, source, problems, kind):
            log.warning(
                "request rejected",
                id=request_id,
                source=source,
                kind=kind,
                problems=[str(p) for p in problems],
            )
        case RequestAccepted(source, plan, _, warnings):
            names = [part.interface.name for part in plan.captures]
            accepted: dict[str, Any] = {
                ON_THE_WIRE["interfaces"]: names,
                ON_THE_WIRE["capture_filter"]: plan.capture_filter,
            }
            log.info("request accepted", id=plan.id, source=source, **accepted)
            for warning in warnings:
                log.warning("request has a flaw", id=plan.id, flaw=warning)
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
        case PacketsLogged():
            for line in event.lines:
                log.info("packet", **where, packet=line)


class _DroppingHandler(QueueHandler):
    """Drops and counts lines if the listener can't keep up."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # the formatter needs structlog's dictionary, and there is no other process to pickle it for
        return record


def _configure(handler: logging.Handler) -> None:
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    stamina.instrumentation.set_on_retry_hooks([])  # our own events report retries
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a missing syslog must not fill stderr with tracebacks
    for noisy in (
        "uvicorn",
        "uvicorn.error",
        "httpx2",
        "httpcore2",
        "asyncio",
        "botocore",
        "boto3",
        "urllib3",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _shared() -> list[Any]:
    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _printable_values,
    ]


def _outputs(syslog: Syslog | None) -> tuple[list[logging.Handler], str]:
    """Return the outputs, and what is wrong with syslog or "". Each line retries syslog."""
    stderr = logging.StreamHandler(sys.stderr)
    tty = sys.stderr.isatty()
    stderr.setFormatter(
        _formatter(structlog.dev.ConsoleRenderer() if tty else structlog.processors.JSONRenderer())
    )
    if syslog is None:
        return [stderr], ""
    try:
        handler = _syslog_output(syslog)
    except OSError as error:  # a host that can't be resolved
        return [stderr], f"[syslog] {syslog.address}: {error.strerror}"
    # the handler itself does not report a missing socket
    missing = isinstance(handler.address, str) and not Path(handler.address).exists()
    return [stderr, handler], f"[syslog] {syslog.address}: no such socket" if missing else ""


def _formatter(renderer: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _syslog_output(settings: Syslog) -> SysLogHandler:
    host, colon, port = settings.address.rpartition(":")
    address: Any = (host, int(port)) if colon and port.isdigit() else settings.address
    handler = SysLogHandler(address, facility=settings.priority >> 3)
    # every line has the configured severity, as in the original
    severity = next(
        name for name, number in handler.priority_names.items() if number == settings.priority & 7
    )
    vars(handler)["priority_map"] = dict.fromkeys(logging.getLevelNamesMapping(), severity)
    handler.append_nul = False
    handler.ident = f"{settings.tag}: "
    handler.setFormatter(_formatter(structlog.processors.LogfmtRenderer(key_order=["event", "id"])))
    return handler


def _printable_values(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: value if key == "exception" else _escaped(value) for key, value in event.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value
