"""The lifecycle of the daemon: build, serve, reload, drain, stop.

Only this file knows all parts.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pcapdaemon import destinations, sources, systemd
from pcapdaemon.api.access import Door
from pcapdaemon.api.assembly import Served
from pcapdaemon.api.serving import Serving
from pcapdaemon.around import Around
from pcapdaemon.audit.log import Audit
from pcapdaemon.capture.ready import Ready
from pcapdaemon.capture.recorders import Recorders
from pcapdaemon.capture.session import Origins
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Event
from pcapdaemon.core.node_events import (
    ConfigurationRefused,
    ConfigurationReloaded,
    DestinationNotReady,
)
from pcapdaemon.dedupe import can_remember
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.delivery.spool import Spool
from pcapdaemon.delivery.spooling import Spooling
from pcapdaemon.destinations.base import Destination
from pcapdaemon.engine import Engine
from pcapdaemon.files import allow_descriptors
from pcapdaemon.filewatch import FileWatch, differing
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.rtnetlink import own_addresses
from pcapdaemon.node import Node
from pcapdaemon.receiving import Receiving
from pcapdaemon.results.history import History
from pcapdaemon.results.records import Records
from pcapdaemon.results.router import Results
from pcapdaemon.runs import Runs
from pcapdaemon.settings import (
    Settings,
    interfaces_of,
    node_name,
    refuse_missing,
    state_directory,
)
from pcapdaemon.sources.http import HttpSettings, HttpSource
from pcapdaemon.sources.pump import close
from pcapdaemon.targets.recorded import PodRecorders, Wanted, wanted
from pcapdaemon.targets.targets import Targets
from pcapdaemon.tasks import keep_up
from pcapdaemon.telemetry.log import Telemetry
from pcapdaemon.telemetry.metrics import Metrics
from pcapdaemon.threads import run_in_thread
from pcapdaemon.trust.requesters import Requesters
from pcapdaemon.trust.trust import Trust

if TYPE_CHECKING:
    from pcapdaemon.api.fleet import FleetRoutes
    from pcapdaemon.triggers.alerts import Alerts

LAST_RESULTS = 2.0
"""Seconds in which waiting results are sent, after all savefiles are delivered."""

LAST_ANSWERS = 3.0
"""Seconds in which waiting API clients are answered, after all savefiles are delivered."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the files with secrets and certificates."""

RETRY_AFTER = 30.0
"""Seconds after which secrets that could not be applied are tried again."""

log = structlog.get_logger()


class Daemon:
    """One daemon.

    `load` reads and validates the configuration, at the start and at each SIGHUP. With False, it
    validates the same tables again, and only reads the files that they name. It raises ConfigError.
    `announce` is called once when the daemon serves.
    """

    def __init__(
        self, load: Callable[[bool], Settings], announce: Callable[[Settings, "Daemon"], None]
    ) -> None:
        self._load, self._announce = load, announce
        self._settings = settings = load(True)
        refuse_missing(settings)
        node = node_name(settings)
        self._telemetry = Telemetry(settings.syslog)
        self._records = Records(state_directory(settings.general))
        self._history = History(node, self._records)
        self._results = Results(node, settings.results, self._history.as_json, self._publish)
        self._budget = budget = MemoryBudget(settings.general.memory)
        self._recorders = Recorders(self._publish)
        self._spool = Spool(settings.spool) if settings.spool.dir else None
        self._delivery = Delivery(
            destinations.prepared(settings.destinations),
            self._publish,
            settings.delivery,
            Spooling(self._spool, self._publish) if self._spool else None,
            lambda: budget.used > budget.limit / 2,
        )
        self._ready = Ready(budget)
        self._pod_recorders = PodRecorders(
            self._recorders,
            lambda there: self._wanted_recorders(self._settings, there),
            lambda: _of_recorders(self._settings),
        )
        origins = Origins(self._recorders.get, self._ready.take)
        runs = Runs(settings, budget, self._delivery, self._publish, origins)
        self._targets = Targets(settings.targets)
        statedir = state_directory(settings.general)
        # without a memory of what was done before, older signatures are worth nothing
        self._trust = Trust(self._publish, 0.0 if can_remember(statedir) else time.time())
        self._engine = Engine(node, settings, runs, self._publish, self._around(), statedir)
        self._receiving = Receiving(self._engine.take, self._results, self._publish)
        self._audit = Audit(node, self._publish, self._receiving.bus_of)
        self._alerts: Alerts | None = None
        self._node = Node(
            lambda: self._settings, self._engine, self._history, self._recorders, budget
        )
        self._metrics = Metrics(self._node.gauges(self._spool, self._ready))
        self._served = Served(
            self._engine,
            self._history,
            self._results.subscribe,
            self._metrics.text,
            self._recorders.status,
            self._node,
            self._delivery.savefile_of,
            self._publish,
            self._audit.last,
        )
        self._fleet: FleetRoutes | None = None
        self.api = Serving(self._publish)
        self._looking: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._files = FileWatch(settings.files)

    def _around(self) -> Around:
        return Around(
            lambda: interfaces_of(self._settings, self._ready),
            lambda: self._results.places,
            own_addresses,
            self._targets.find,
            lambda rights: self._node.presence(rights),  # noqa: PLW0108  # it is made later
            self._trust.standing,
            self._history.owner_of,
            self._trust.quota,
            lambda plan, message: self._audit.permit(plan, message),  # noqa: PLW0108  # the same
        )

    async def run(self) -> None:
        """Run until a signal stops it and the last delivery ends.

        Raises ConfigError if it can't start.
        """
        self._handle_signals()
        allow_descriptors()
        left = await run_in_thread(self._spool.load) if self._spool else []
        self._history.restore(await run_in_thread(self._records.load))
        self._trust.restore(self._history.requests.values())
        await self._apply(self._settings)
        work = (
            self._records.keep,
            systemd.feed_watchdog,
            self._reload_when_asked,
            partial(self._delivery.resume, iter(left)),
            self._delivery.keep_watch,
            self._pod_recorders.keep,
        )
        helpers = [asyncio.create_task(keep_up(one)) for one in work]
        self._announce(self._settings, self)
        addresses = [source.address for source in self._receiving.sources.values()]
        warnings = (*self._settings.warnings, *self._settings.shortcomings())
        self._telemetry.started(addresses, list(self._settings.destinations), warnings)
        systemd.notify("READY=1")
        await self._stopping.wait()
        systemd.notify("STOPPING=1")
        await _cancelled(helpers)  # a reload in progress must not interfere
        await self._watch_fleet(None)
        if self._alerts:
            await self._alerts.close()
        ending = await self._receiving.stop(list(self._receiving.sources), for_good=True)
        await self._engine.drain(self._settings.general.draintime)
        await self._recorders.close()
        await run_in_thread(self._ready.close)
        await self._records.write()
        await self._results.close(LAST_RESULTS)
        await self._audit.close(LAST_RESULTS)
        # after the last verdict on their messages
        await asyncio.gather(*(close(source) for source in ending))
        await self.api.close(LAST_ANSWERS)
        if self._spool:
            self._spool.close()
        self._telemetry.stopped()

    async def _apply(
        self, settings: Settings, renewed: Collection[str] = (), secrets_only: bool = False
    ) -> None:
        async with self._recorders.changing:
            await self._change(settings, renewed, secrets_only)

    async def _change(
        self, settings: Settings, renewed: Collection[str], secrets_only: bool
    ) -> None:
        """Change the running parts to these settings, and leave alone what did not change.

        Sources of `renewed` sections have new credentials. They connect again, and go on where they
        were. With `secrets_only`, nothing else in the sections has changed. Raises ConfigError
        before anything has changed.
        """
        old, running = self._settings.sources, self._receiving.sources
        again = {
            name
            for name in running
            if sources.TABLE[name].section in renewed
            and (secrets_only or settings.sources.get(name) == old.get(name))
        }
        made_destinations = destinations.prepared(settings.destinations)
        node = node_name(settings)
        same = {n for n in running if settings.sources.get(n) == old.get(n)} | again
        unchanged = same if node == self._engine.node else set()
        made = {
            n: sources.load(n)(section, node)
            for n, section in settings.sources.items()
            if n not in unchanged
        }
        there = await run_in_thread(self._wanted_recorders, settings, list(self._recorders.targets))
        recorders = await self._recorders.make(there.recorders, *_of_recorders(settings))
        http = settings.sources.get("http")
        # the last step that can fail
        listening = http if isinstance(http, HttpSettings) else None
        await self.api.move(listening, "http" in renewed)
        gone = await self._receiving.stop([name for name in running if name not in unchanged])
        await asyncio.gather(*(close(source) for source in gone))
        self._recorders.exchange(recorders, there.targets)
        await self._configure(node, settings, made_destinations)
        for name, source in made.items():
            self._receiving.start(name, source)
        for name in again:
            await self._receiving.reconnect(name, settings.sources[name])
        places = (" ".join(filter(None, place)) for place in self._results.boxes)
        await self._take_alerts(settings, node)
        triggers = [one.name for one in settings.trigger]
        names = (*settings.sources, *(f"trigger:{name}" for name in triggers))
        self._metrics.expect(names, settings.destinations, places, triggers)
        await self._watch_fleet(settings)
        self._serve_api()

    def _wanted_recorders(self, settings: Settings, there: Sequence[str] = ()) -> Wanted:
        return wanted(settings.recorders, settings.recorders_of_pods, settings.targets, there)

    async def _configure(self, node: str, settings: Settings, made: dict[str, Destination]) -> None:
        """Pass the settings to every part that is kept."""
        self._settings = settings
        self._telemetry.configure(settings.syslog)
        self._history.configure(node)
        await self._results.configure(node, settings.results, settings.callback)
        self._engine.configure(node, settings)
        self._targets.configure(settings.targets)
        requesters = Requesters(settings.requester, settings.group)
        key = settings.results.key_file
        self._trust.configure(node, settings.general, settings.trust, requesters, key)
        keys = {"keys": self._trust.requesters.fingerprints}
        await self._audit.configure(node, settings.audit, keys)
        self._results.seal = self._trust.seal
        self._budget.configure(settings.general.memory, settings.capture.wipe)
        self._ready.configure(settings.ready, settings.capture)
        self._delivery.configure(made, settings.delivery)
        for check in (self._results.check(), *map(self._check, made.values())):
            task = asyncio.create_task(check)
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _check(self, destination: Destination) -> None:
        """Report now what would prevent a delivery, before the first savefile exists."""
        if problem := await destination.check():
            self._publish(DestinationNotReady(destination.name, problem))

    async def _take_alerts(self, settings: Settings, node: str) -> None:
        if settings.trigger and not self._alerts:
            # imported here because many nodes have no trigger
            from pcapdaemon.triggers.alerts import Alerts  # noqa: PLC0415

            take, bus_of, sign = self._engine.take, self._receiving.bus_of, self._trust.sign_for
            statedir = state_directory(settings.general)
            self._alerts = Alerts(take, bus_of, self._publish, statedir, sign)
        if self._alerts:
            await self._alerts.configure(settings.trigger, settings.sources, node)

    async def _watch_fleet(self, settings: Settings | None) -> None:
        on = settings is not None and settings.console.fleet
        if on and not self._fleet:
            # imported here because few nodes need its megabyte
            from pcapdaemon.api.fleet import FleetRoutes  # noqa: PLC0415

            closing, sign = lambda: self.api.closing, self._trust.sign
            self._fleet = FleetRoutes(
                self._delivery.savefile_of, self._node, closing, sign, self._publish
            )
        if self._fleet:
            keys = settings.results.node_keys if settings else ()
            await self._fleet.watch(self._receiving.sources if on else {}, keys)

    def _serve_api(self) -> None:
        source = self._receiving.sources.get("http")
        if not isinstance(source, HttpSource):
            return
        subject_of = self._trust.subjects_of(self._settings.oidc)
        door = Door(source.settings, self._trust.requesters, self._engine.node, subject_of)
        self.api.change(door)
        triggers = (lambda: alerts.triggers) if (alerts := self._alerts) else None
        others = [self._fleet] if self._fleet and self._fleet.is_on else []
        app, is_open = self._served.application(source, self.api.closing, triggers, others)
        self.api.serve(app, source.settings, is_open, door)

    def _publish(self, event: Event) -> None:
        reports = (self._history, self._metrics, self._telemetry, self._results)
        for listener in (*reports, self._trust, self._audit):
            try:
                listener.on_event(event)
            except Exception:  # a bug in reporting must not undo what happened
                log.exception("an event could not be reported", what=type(event).__name__)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)

    def _on_stop_signal(self) -> None:
        if self._stopping.is_set():
            os._exit(1)  # whoever sends a second signal does not want to wait
        self._stopping.set()

    async def _reload_when_asked(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._reload_wanted.wait()
            if self._reload_wanted.is_set():
                self._reload_wanted.clear()
                await self._reload()
            elif changed := await run_in_thread(self._files.changed):
                log.info("secrets or certificates changed", sections=sorted(changed))
                await self._reload(changed)

    async def _reload(self, renewed: Collection[str] = ()) -> None:
        """Read the configuration again or, with `renewed`, only the files that it names."""
        try:
            settings = self._load(not renewed)
            if not renewed:
                refuse_missing(settings)
            moved = settings.spool != self._settings.spool
            changed = differing(self._settings.files, settings.files)
            await self._apply(settings, {*renewed, *changed}, bool(renewed))
            self._files.configure(settings.files)
        except ConfigError as error:
            self._publish(ConfigurationRefused(tuple(error.problems)))
            asyncio.get_running_loop().call_later(RETRY_AFTER, self._files.report_again, renewed)
        except Exception as error:  # a bug must not end running captures
            log.exception("a reload failed in an unforeseen way")
            self._publish(
                ConfigurationRefused((f"internal error: {type(error).__name__}: {error}",))
            )
        else:
            words = ("[spool] changed: restart the daemon to apply it",) if moved else ()
            self._publish(ConfigurationReloaded((*settings.warnings, *words)))


def _of_recorders(settings: Settings) -> tuple[int, str]:
    return settings.capture.buffer, settings.general.exclude or ""


async def _cancelled(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
