"""Where log lines go: stderr, and syslog if it is configured. Nothing waits for them."""

import logging
import os
import queue
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import QueueHandler, QueueListener, SysLogHandler
from pathlib import Path
from typing import Any

import stamina.instrumentation
import structlog
from pydantic import Field

from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable

WAITING_LINES = 20_000
WAITING_BYTES = 16 << 20
"""Most log lines that wait for a slow reader, and about how many bytes of them.

More are dropped and counted.
"""


class Syslog(Section):
    """`[syslog]`: where the log goes in addition to stderr."""

    priority: int = Field(
        25, ge=0, le=191, description="Facility * 8 + severity, the same for every line."
    )
    tag: str = Field("pcapdaemon", min_length=1, description="Name of the program in each line.")
    address: str = Field(
        "/dev/log", min_length=1, description="Path of the socket, or `host:port` for UDP."
    )


class DroppingHandler(QueueHandler):
    """Drops and counts lines if the listener can't keep up.

    `waiting` is about how many bytes wait.
    """

    dropped = 0
    waiting = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it; never blocks."""
        size = len(str(record.msg))
        record.__dict__["size"] = size
        if self.waiting + size > WAITING_BYTES:
            self.dropped += 1
            return
        try:
            self.queue.put_nowait(record)
            self.waiting += size
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Pass a line on as it is."""
        # the formatter needs structlog's dictionary, and there is no other process to pickle it for
        return record


class CountingListener(QueueListener):
    """Writes the lines that a handler queued."""

    def __init__(self, handler: DroppingHandler, *outputs: logging.Handler) -> None:
        super().__init__(handler.queue, *outputs)
        self._handler = handler

    def dequeue(self, block: bool) -> logging.LogRecord:
        """Return the next line."""
        record: logging.LogRecord = super().dequeue(block)
        self._handler.waiting -= getattr(record, "size", 0)
        return record


def configure(handler: logging.Handler) -> None:
    """Send all log lines of this process to a handler."""
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


def make_outputs(syslog: Syslog | None) -> tuple[list[logging.Handler], str]:
    """Return the outputs, and what is wrong with syslog or "". Each line retries syslog."""
    stderr = logging.StreamHandler(sys.stderr)
    tty = sys.stderr.isatty()
    for_people = structlog.dev.ConsoleRenderer(colors=tty and "NO_COLOR" not in os.environ)
    stderr.setFormatter(_formatter(for_people if tty else structlog.processors.JSONRenderer()))
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
