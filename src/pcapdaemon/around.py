"""What the engine asks of the parts around it."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from pcapdaemon.core.addressing import Ip, addressed_to, no_addresses
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.intake import View
from pcapdaemon.core.interface import Interface
from pcapdaemon.core.plan import CapturePlan, Rejection
from pcapdaemon.core.requester import Rights, Standing
from pcapdaemon.core.target import NOTHING_FOUND, Asked, Found
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.settings import Settings
from pcapdaemon.sources.base import Message

CAN_ENCRYPT = find_spec("cryptography") is not None
"""Whether the library of encryption and signatures is installed, which is an extra."""

Identify = Callable[[Message, Mapping[str, Any]], Standing | Rejection]
"""Returns who sent a message and what it says, or why nothing is done for it."""


async def no_targets(_: Asked) -> Found:
    """Return nothing: requests can't be aimed at anything but interfaces."""
    return NOTHING_FOUND


def anyone(_: Message, fields: Mapping[str, Any]) -> Standing:
    """Return that everybody may do everything."""
    return Standing(dict(fields))


def no_owner(_: str) -> None:
    """Return that nobody has a request with this id."""
    return


async def no_audit(_: CapturePlan, __: Message) -> str:
    """Return that nothing has to be written before a capture."""
    return ""


def nothing_to_say(_: Rights | None) -> Mapping[str, Any]:
    """Return that a node says nothing of itself."""
    return {}


def no_quota(_: str, __: Rights | None, ___: int) -> str:
    """Return that no quota is used up."""
    return ""


@dataclass(frozen=True, slots=True)
class Around:
    """The parts, as functions.

    `interfaces` returns what can be captured on now, and `places` what a request's `reply_to` may
    name. `presence` returns what this node says of itself to a requester with these rights.
    `identify` finds out who sent a message, `owner_of` whose request an id is, and `quota` which
    daily quota of a requester is used up. `permit` writes to the audit log that a request is
    accepted, and returns why it must not be.
    """

    interfaces: Callable[[], Mapping[str, Interface]]
    places: Callable[[], frozenset[str]] = frozenset
    addresses: Callable[[], Collection[Ip]] = no_addresses
    find_targets: Callable[[Asked], Awaitable[Found]] = no_targets
    presence: Callable[[Rights | None], Mapping[str, Any]] = nothing_to_say
    identify: Identify = anyone
    owner_of: Callable[[str], str | None] = no_owner
    quota: Callable[[str, Rights | None, int], str] = no_quota
    permit: Callable[[CapturePlan, Message], Awaitable[str]] = no_audit

    def view(
        self,
        node: str,
        settings: Settings,
        delivery: Delivery,
        targets: Found,
        standing: Standing,
        owner_of: Callable[[str], str | None],
    ) -> View:
        """Return what a decision about a message depends on now."""
        around = Surroundings(
            node,
            time.time(),
            self.interfaces(),
            settings.aliases,
            self.places(),
            delivery.destination_fields,
            targets,
            standing.requester,
            standing.rights,
            CAN_ENCRYPT,
        )
        return View(settings.general, around, delivery.objections, settings.profiles, owner_of)


@dataclass(slots=True)
class Addressee:
    """Knows which messages are for this node. `find` returns its addresses."""

    find: Callable[[], Collection[Ip]]
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    _found: Collection[Ip] | None = None
    _until: float = 0.0

    def means(self, fields: dict[str, Any]) -> bool:
        """Return whether a message is for this node."""
        return addressed_to(fields, self.node, self.labels, self._own)

    def _own(self) -> Collection[Ip] | None:
        """Return this host's addresses as of the last second: messages for others are many.

        Returns None while they are unknown.
        """
        now = time.monotonic()
        if now > self._until:
            with suppress(OSError):  # no descriptor is free: the last ones may do
                self._found = frozenset(self.find())
            self._until = now + 1
        return self._found
