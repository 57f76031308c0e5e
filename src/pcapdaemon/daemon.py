"""The life of the daemon: build, serve, reload, drain, stop. The only file that sees all parts."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable

from pcapdaemon import destinations, sources, systemd
from pcapdaemon.api import Api, ApiServer
from pcapdaemon.capture import MemoryBudget, list_interfaces
from pcapdaemon.config import Settings
from pcapdaemon.delivery import Delivery
from pcapdaemon.engine import Engine
from pcapdaemon.errors import ConfigError
from pcapdaemon.events import ConfigurationRefused, ConfigurationReloaded, Event
from pcapdaemon.history import History, SourceRecord
from pcapdaemon.sources.base import Source, pump
from pcapdaemon.sources.http import HttpSettings, HttpSource
from pcapdaemon.telemetry import Telemetry


def node_name() -> str:
    """The name that requests call this host by: the kernel's, as Go's os.Hostname has it, not the DNS's."""
    return socket.gethostname()


def missing_interfaces(settings: Settings) -> list[str]:
    """A problem for each configured interface that this host lacks and that is not optional."""
    there = list_interfaces()
    return [
        f"[[interface]] {interface.name}: this host has no such interface (optional = true allows that)"
        for interface in settings.interfaces
        if interface.name not in there and not interface.optional
    ]


class Daemon:
    """One daemon. `load` reads and validates the configuration, at start and at each SIGHUP; it raises ConfigError."""

    def __init__(self, load: Callable[[], Settings], announce: Callable[[Settings, "Daemon"], None]) -> None:
        self._load, self._announce = load, announce
        self._settings = load()
        _refuse_missing(self._settings)
        self._telemetry = Telemetry(self._settings.syslog)
        self._history = History()
        node = node_name()
        delivery = self._delivery(self._settings)
        self._engine = Engine(node, self._settings, MemoryBudget(self._settings.general.memory), delivery, self._publish)
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self._sources: dict[str, Source] = {}
        self.api: ApiServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()

    async def run(self) -> None:
        """From start to the end of the last delivery. Raises ConfigError where it can't start."""
        self._hear_signals()
        await self._apply(self._settings)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(systemd.feed_watchdog()), tasks.create_task(self._reload_when_told())]
            self._announce(self._settings, self)
            self._telemetry.started(self._settings, [source.address for source in self._sources.values()])
            systemd.notify("READY=1")
            await self._stopping.wait()
            systemd.notify("STOPPING=1")
            await self._stop()
            for helper in helpers:
                helper.cancel()
        self._telemetry.stopped()

    async def _stop(self) -> None:
        await self._stop_sources(list(self._sources))
        await self._engine.drain(self._settings.general.draintime)
        await self._stop_api()

    async def _apply(self, settings: Settings) -> None:
        """Make the running parts be as the settings say; what did not change goes on undisturbed."""
        http = settings.sources.get("http")
        moved = not (self.api and isinstance(http, HttpSettings) and _same_address(self.api.settings, http))
        api = ApiServer(http) if moved and isinstance(http, HttpSettings) else None  # the last thing that can fail
        changed = [n for n, source in self._sources.items() if settings.sources.get(n) != self._settings.sources.get(n)]
        await self._stop_sources(changed)
        if moved:
            await self._stop_api()
            self.api = api
        if settings.syslog != self._settings.syslog:
            self._telemetry.close()
            self._telemetry = Telemetry(settings.syslog)
        self._engine.settings, self._settings = settings, settings
        self._engine.budget.limit = settings.general.memory
        self._engine.delivery = self._delivery(settings)
        for name, section in settings.sources.items():
            if name not in self._sources:
                self._start_source(name, sources.load(name)(section, self._engine.node))
        self._serve_api(http)

    def _start_source(self, name: str, source: Source) -> None:
        self._sources[name] = source
        self._history.sources[name] = SourceRecord()
        self._pumps[name] = asyncio.create_task(pump(source, self._engine.take, self._publish))

    async def _stop_sources(self, names: list[str]) -> None:
        for name in names:
            self._pumps[name].cancel()
        await asyncio.gather(*(self._pumps[name] for name in names), return_exceptions=True)
        for name in names:
            del self._pumps[name], self._sources[name], self._history.sources[name]

    def _serve_api(self, http: object) -> None:
        source = self._sources.get("http")
        if not self.api or not isinstance(http, HttpSettings) or not isinstance(source, HttpSource):
            return
        self.api.settings = http
        self.api.app = Api(self._engine, self._history, source).app()
        if self._serving is None:
            self._serving = asyncio.create_task(self.api.serve())

    async def _stop_api(self) -> None:
        if self.api and self._serving:
            self.api.stop()
            await self._serving
        self.api = self._serving = None

    def _delivery(self, settings: Settings) -> Delivery:
        made = {name: destinations.load(name)(section) for name, section in settings.destinations.items()}
        return Delivery(made, self._publish, settings.delivery.deadline)

    def _publish(self, event: Event) -> None:
        self._history.hear(event)
        self._telemetry.hear(event)

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)

    def _on_stop_signal(self) -> None:
        if self._stopping.is_set():
            os._exit(1)  # the second signal: whoever sends it does not want to wait
        self._stopping.set()

    async def _reload_when_told(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await self._reload()

    async def _reload(self) -> None:
        try:
            settings = self._load()
            _refuse_missing(settings)
            await self._apply(settings)
        except ConfigError as error:
            self._publish(ConfigurationRefused(tuple(error.problems)))
        else:
            self._publish(ConfigurationReloaded(settings.warnings))


def _refuse_missing(settings: Settings) -> None:
    if problems := missing_interfaces(settings):
        raise ConfigError(problems, "'pcapdaemon interfaces' lists what there is")


def _same_address(one: HttpSettings, other: HttpSettings) -> bool:
    return (one.host, one.port) == (other.host, other.port)
