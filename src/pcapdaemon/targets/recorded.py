"""Keeps a recorder for each interface of some pods, as they come and go."""

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.capture.recorders import Recorders
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.interface import Interface, described
from pcapdaemon.core.target import Asked
from pcapdaemon.targets.lookup import look_up
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.threads import run_in_thread

RTMGRP_LINK = 1
AFTER_A_CHANGE = (0.2, 1.0, 3.0)
"""Seconds after which the pods are looked up: a process may come later than its interface."""

LOOK_ANYWAY = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The recorders that a node must have.

    `targets` are what their interfaces lead to. `without` are pods for which there is no room.
    """

    recorders: Mapping[str, RecorderSettings]
    targets: Mapping[str, Any]
    without: tuple[str, ...] = ()


def wanted(
    fixed: Mapping[str, RecorderSettings],
    of_pods: Sequence[RecorderSettings],
    settings: TargetSettings,
    there: Sequence[str] = (),
) -> Wanted:
    """Return the recorders of interfaces, `fixed`, and those of the pods that run now.

    Pods whose interfaces are `there` already come first. Blocks for some milliseconds.
    """
    found, targets, without = dict(fixed), {}, []
    every = settings.model_copy(update={"most": sys.maxsize, "allow": ("*",)})
    for recorder in of_pods:
        room = recorder.total // recorder.memory
        interfaces = look_up(Asked(pods=recorder.pods), every).interfaces
        for one in sorted(interfaces, key=lambda one: _order(one, there)):
            if one.name in found or one.target is None:
                continue
            if room == 0:
                without.append(one.target.name)
                continue
            room -= 1
            found[one.name], targets[one.name] = recorder, described([one.target])
    return Wanted(found, targets, tuple(without))


def _order(interface: Interface, there: Sequence[str]) -> tuple[bool, str, str]:
    name = interface.target.name if interface.target else ""
    return interface.name not in there, name, interface.name


class PodRecorders:
    """Exchanges the recorders when pods come and go.

    `look` returns the recorders that must be there now. It blocks. `options` returns the bytes of
    the kernel's buffer, and what is never recorded.
    """

    def __init__(
        self,
        recorders: Recorders,
        look: Callable[[Sequence[str]], Wanted],
        options: Callable[[], tuple[int, str]],
    ) -> None:
        self._recorders, self._look, self._options = recorders, look, options
        self._without: tuple[str, ...] = ()

    async def keep(self) -> None:
        """Look up the pods at each change of an interface, until it is cancelled."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as changes:
            changes.bind((0, RTMGRP_LINK))
            changes.setblocking(False)
            while True:
                await self._try_to_exchange()
                await _changed(changes)
                for seconds in AFTER_A_CHANGE:
                    await asyncio.sleep(seconds)
                    await self._try_to_exchange()

    async def _try_to_exchange(self) -> None:
        """Leave the recorders as they are if the pods can't be looked up."""
        try:
            await self._exchange()
        except OSError as error:
            log.warning("pods could not be looked up", reason=str(error))
        except Exception:  # a bug must not end the recorders of pods
            log.exception("recorders of pods could not be exchanged")

    async def _exchange(self) -> None:
        async with self._recorders.changing:
            there = self._recorders.targets
            found = await run_in_thread(self._look, list(there))
            if found.targets != there:
                try:
                    made = await self._recorders.make(found.recorders, *self._options())
                except ConfigError as error:
                    log.warning("recorders of pods could not be made", reason=str(error))
                    return
                self._recorders.exchange(made, found.targets)
        if found.without != self._without:
            self._without = found.without
            if found.without:
                log.warning(
                    "pods have no recorder: [[recorder]] total is used up",
                    pods=found.without[:10],
                    number=len(found.without),
                )


async def _changed(changes: socket.socket) -> None:
    """Wait until an interface changes, and take all messages about it."""
    with suppress(TimeoutError, OSError):  # OSError: more changes than the kernel could keep
        async with asyncio.timeout(LOOK_ANYWAY):
            await asyncio.get_running_loop().sock_recv(changes, 65536)
        while True:
            changes.recv(65536)
