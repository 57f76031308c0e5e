"""Puts the routes of all subjects together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pcapdaemon.api.audit import AuditRoutes, Last
from pcapdaemon.api.console import ConsoleRoutes
from pcapdaemon.api.node import NodeRoutes
from pcapdaemon.api.routes import Api, Routes
from pcapdaemon.api.savefiles import SavefileOf, SavefileRoutes
from pcapdaemon.api.server import Asgi
from pcapdaemon.api.streams import StreamRoutes
from pcapdaemon.core.events import Publish
from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.engine import Engine
from pcapdaemon.node import Node
from pcapdaemon.results.history import History
from pcapdaemon.sources.http import HttpSource

if TYPE_CHECKING:
    from pcapdaemon.triggers.trigger import Triggers


@dataclass(frozen=True, slots=True)
class Served:
    """What the routes need of the daemon."""

    engine: Engine
    history: History
    subscribe: Callable[..., AsyncIterator[tuple[str, bytes]]]
    metrics: Callable[[], bytes]
    recorders: Callable[[], list[RecorderStatus]]
    node: Node
    savefile_of: SavefileOf
    publish: Publish
    audit: Last

    def application(
        self,
        source: HttpSource,
        closing: asyncio.Event,
        triggers: "Callable[[], Triggers] | None",
        others: Sequence[Routes],
    ) -> tuple[Asgi, Callable[[str], bool]]:
        """Return the application, and what returns whether a path needs no token.

        `closing` is set when endless responses must end. `triggers` is None without any.
        """
        engine, history, console = self.engine, self.history, self.node.console
        parts: list[Routes] = [
            ConsoleRoutes(console),
            SavefileRoutes(history, source, self.savefile_of, console, self.publish),
            NodeRoutes(self.node, closing),
            StreamRoutes(engine, history, source, console, closing),
            AuditRoutes(self.audit, source),
            *others,
        ]
        if triggers is not None:
            # imported here because many nodes have no trigger
            from pcapdaemon.api.alerts import AlertRoutes  # noqa: PLC0415

            parts.append(AlertRoutes(triggers, self.publish))
        subscribe = partial(self.subscribe, closing)
        api = Api(engine, history, source, subscribe, self.metrics, self.recorders, parts)
        return api.app(), lambda path: any(one.is_open(path) for one in parts)
