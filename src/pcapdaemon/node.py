"""What this node is and has now, for people: the API, the console and the answer to `list`."""

import socket
import time
from collections.abc import Callable, Sized
from itertools import islice
from typing import Any

from pcapdaemon import __version__
from pcapdaemon.capture.recorders import Recorders
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.bounds import may_use
from pcapdaemon.core.choice import may_capture_on
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import MAX_SNAPLEN
from pcapdaemon.core.plan import policy_problems
from pcapdaemon.core.profile import INTERFACES, Profiles
from pcapdaemon.core.request import ON_THE_WIRE, validate
from pcapdaemon.core.requester import Rights, matches
from pcapdaemon.core.wire import to_wire
from pcapdaemon.delivery.spool import Spool, age
from pcapdaemon.engine import Engine
from pcapdaemon.native.interfaces import linktype_of, list_interfaces
from pcapdaemon.native.library import library
from pcapdaemon.native.live import instructions_of
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.rtnetlink import all_traffic
from pcapdaemon.results.history import History
from pcapdaemon.settings import Settings, replays_of
from pcapdaemon.telemetry.metrics import Levels

MOST_SHOWN = 256
"""Most interfaces whose traffic is reported every second. The first ones by name are."""

MOST_REPORTED = 64
"""Most interfaces and recorders that a node reports on a bus."""

BPF, SNAP, BYTES, TIMEOUT, INTERFACE = (
    ON_THE_WIRE[name]
    for name in ("capture_filter", "snaplen", "size", "idle_timeout", "interfaces")
)


PUBLIC = {"listen", "download", "preview", "fleet"}
"""Keys of `[console]` that the page must know."""

DLT = {"EN10MB": 1, "RAW": 12, "LINUX_SLL": 113}
"""The linktypes of usual interfaces, as libpcap numbers them."""


class Node:
    """Describes one node. `settings` returns those in force."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        engine: Engine,
        history: History,
        recorders: Recorders,
        budget: MemoryBudget,
    ) -> None:
        self._settings, self._engine, self._history = settings, engine, history
        self._recorders, self._budget, self.rates = recorders.status, budget, recorders.rates
        self._gauges, self._started_at = Levels(), time.time()

    @property
    def name(self) -> str:
        """The name of this node."""
        return self._engine.node

    def console(self) -> ConsoleSettings:
        """Return what the page may show."""
        return self._settings().console

    def gauges(self, spool: Spool | None, ready: Sized) -> Levels:
        """Return the gauges of the metrics; `ready` are the interfaces that are kept open."""
        self._gauges = Levels(
            skipped=lambda: self._engine.skipped,
            memory_used=lambda: self._budget.used,
            memory_budget=lambda: self._budget.limit,
            spool_files=lambda: len(spool.stored) if spool else 0,
            spool_bytes=lambda: spool.size if spool else 0,
            spool_oldest=lambda: age(spool.stored) if spool else 0.0,
            recorders=self._recorders,
            ready=lambda: len(ready),
        )
        return self._gauges

    def about(self, rights: Rights | None = None) -> dict[str, Any]:
        """Return what changes seldom: names, limits, defaults, and what is connected."""
        settings = self._settings()
        general, history = settings.general, self._history
        return {
            "node": self._engine.node,
            "version": __version__,
            "library": library(),
            "started_at": self._started_at,
            "labels": general.labels,
            "limits": self._limits(settings),
            "defaults": {
                SNAP: min(general.snaplength, MAX_SNAPLEN),
                TIMEOUT: general.defaulttimeout,
                "format": general.format,
                "compress": general.compress,
            },
            "profiles": _usable(settings.profiles, rights),
            "aliases": _visible(settings.aliases, rights),
            "sources": {name: vars(one) for name, one in history.sources.items()},
            "destinations": {
                name: history.not_ready.get(name, "") for name in settings.destinations
            },
            "console": settings.console.model_dump(include=PUBLIC),
        }

    def _limits(self, settings: Settings) -> dict[str, Any]:
        general = settings.general
        return {
            "packets": general.maxpackets,
            BYTES: general.maxbytes,
            "duration": general.maxduration,
            TIMEOUT: general.maxtimeout,
            "lookback": general.maxlookback,
            "captures": general.maxcaptures,
            "memory": self._budget.limit,
        }

    def interfaces(self, rights: Rights | None = None) -> list[dict[str, Any]]:
        """Return the interfaces of this host, and the files that are played as such.

        Those on which a requester with these rights may not capture are left out.

        Blocks for a millisecond per dozen of them.
        """
        settings = self._settings()
        found = {**list_interfaces(), **replays_of(settings)}
        recorded = {one.interface for one in self._recorders()}
        return [
            {
                "name": one.name,
                "kind": one.kind,
                "up": one.up,
                "addresses": list(one.addresses),
                "description": one.description,
                "aliases": [alias for alias, names in settings.aliases.items() if name in names],
                "allowed": may_capture_on(one, settings.general),
                "recorder": name in recorded,
                "linktype": _linktype(one),
            }
            for name, one in found.items()
            if may_use(one, rights)
        ]

    def levels(self) -> dict[str, Any]:
        """Return what changes all the time: traffic since the start of the host, memory, captures.

        `traffic` has packets and bytes of each interface that is up, received and sent together.
        """
        gauges = self._gauges
        traffic = sorted(all_traffic().items())[:MOST_SHOWN]
        return {
            "at": time.time(),
            "traffic": {name: [counts.packets, counts.bytes] for name, counts in traffic},
            "memory": self._budget.used,
            "captures": len(self._engine.runs),
            "skipped": gauges.skipped(),
            "spool": {
                "files": gauges.spool_files(),
                "bytes": gauges.spool_bytes(),
                "oldest": gauges.spool_oldest(),
            },
            "recorders": {
                one.interface: {"covered": one.covered, "bytes": one.bytes, "reason": one.reason}
                for one in self._recorders()
            },
        }

    def presence(self, rights: Rights | None = None) -> dict[str, Any]:
        """Return what this node says of itself on a bus, in at most a few kilobytes.

        Interfaces on which a requester with these rights may not capture are left out.
        """
        settings = self._settings()
        http = settings.sources.get("http")
        names = (name for _, name in socket.if_nameindex())
        found = (one for one in map(_network, names) if may_use(one, rights))
        allowed = (one.name for one in found if may_capture_on(one, settings.general))
        recorders = (one for one in self._recorders() if may_use(_network(one.interface), rights))
        return {
            "version": __version__,
            "labels": settings.general.labels,
            INTERFACE: list(islice(allowed, MOST_REPORTED)),
            "recorders": [to_wire(one) for one in islice(recorders, MOST_REPORTED)],
            "memory": self._budget.limit,
            "used": self._budget.used,
            "url": getattr(http, "public_url", None) or "",
        }

    def check_filter(self, expression: str, interface: str) -> dict[str, Any]:
        """Return whether a capture filter can be used, and into how many instructions it compiles.

        Names of hosts are not looked up, though a capture may. Blocks for at most a second.
        """
        request, wrong = validate({"node": "any", INTERFACE: ["any"], BPF: expression})
        wrong += policy_problems(request, self._settings().general)
        if words := "; ".join(one.message for one in wrong if one.field == BPF):
            return {"valid": False, "instructions": 0, "error": words}
        found = list_interfaces().get(interface) if interface else None
        linktype = DLT.get(_linktype(found) if found else "", DLT["EN10MB"])
        try:
            number = instructions_of(expression, linktype)
        except CaptureRefused as error:
            return {"valid": False, "instructions": 0, "error": str(error)}
        return {"valid": True, "instructions": number, "error": ""}


def _network(name: str) -> Interface:
    return Interface(name, InterfaceKind.NETWORK)


def _usable(profiles: Profiles, rights: Rights | None) -> Profiles:
    """Return the profiles that name no interface on which a requester may not capture."""
    return {
        name: fields
        for name, fields in profiles.items()
        if rights is None
        or not rights.interfaces
        or all(matches(rights.interfaces, one) for one in fields.get(INTERFACES) or ())
    }


def _visible(aliases: dict[str, list[str]], rights: Rights | None) -> dict[str, list[str]]:
    """Return the aliases of the interfaces on which a requester may capture."""
    if rights is None or not rights.interfaces:
        return aliases
    allowed = {
        alias: [name for name in names if matches(rights.interfaces, name)]
        for alias, names in aliases.items()
    }
    return {alias: names for alias, names in allowed.items() if names}


def _linktype(interface: Interface) -> str:
    """Return an interface's linktype, or "" if it is not known without opening it."""
    if interface.kind is InterfaceKind.ANY:
        return "LINUX_SLL"
    return linktype_of(interface) if interface.kind is InterfaceKind.NETWORK else ""
