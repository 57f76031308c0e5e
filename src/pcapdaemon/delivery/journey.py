"""The state of one delivery."""

import asyncio
import time
from dataclasses import dataclass, field

from pcapdaemon.delivery.parcel import Parcel


@dataclass(eq=False)
class Journey:
    """The delivery of a parcel.

    `tasks` has one task per destination. `failed` and `refused` say why an attempt failed
    temporarily or permanently. `at_rest` is set when no destination is pending, or the savefile
    waits in the spool. `storing` is held while it is written there: several tasks may want that.
    `store_after` is when that may be tried again.
    """

    parcel: Parcel
    begun: float = field(default_factory=time.monotonic)
    tasks: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spooled: bool = False
    at_rest: asyncio.Event = field(default_factory=asyncio.Event)
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    store_after: float = 0.0
