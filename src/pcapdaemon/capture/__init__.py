"""Capturing: what the rest of the program may use of it.

`Capture` runs on one interface in one thread (`_native.pyx`, the only file beside `_loop.pyx` that knows libpcap), into
memory of a `MemoryBudget`; what comes out is a `Savefile`. `list_interfaces` says where one can capture. A `Recorder` keeps
the last packets of an interface, on which a `RecordedCapture` reads on: it is used like a `Capture`.
"""

from pcapdaemon.capture._native import Capture, library_version
from pcapdaemon.capture._recorded import RecordedCapture
from pcapdaemon.capture.compression import compressed
from pcapdaemon.capture.interfaces import describe_interfaces, list_interfaces
from pcapdaemon.capture.memory import MemoryBudget
from pcapdaemon.capture.recorder import PACKET_BUFFER_TIMEOUT_MS, Recorder, RecorderSettings, RecorderStatus
from pcapdaemon.capture.records import Record, records
from pcapdaemon.capture.savefile import Savefile

__all__ = [
    "PACKET_BUFFER_TIMEOUT_MS",
    "Capture",
    "MemoryBudget",
    "Record",
    "RecordedCapture",
    "Recorder",
    "RecorderSettings",
    "RecorderStatus",
    "Savefile",
    "compressed",
    "describe_interfaces",
    "library_version",
    "list_interfaces",
    "records",
]
