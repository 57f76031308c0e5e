"""Capturing: what the rest of the program may use of it.

`Capture` runs on one interface in one thread (`_native.pyx`, the only file beside `_loop.pyx` that knows libpcap), into
memory of a `MemoryBudget`; what comes out is a `Savefile`. `list_interfaces` says where one can capture.
"""

from pcapdaemon.capture._native import Capture, library_version
from pcapdaemon.capture.interfaces import describe_interfaces, list_interfaces
from pcapdaemon.capture.memory import MemoryBudget
from pcapdaemon.capture.savefile import Record, Savefile

__all__ = ["Capture", "MemoryBudget", "Record", "Savefile", "describe_interfaces", "library_version", "list_interfaces"]
