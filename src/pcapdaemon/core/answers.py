"""What is decided about a message: the answer for its sender, the verdict for its source. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from pcapdaemon.core.request import Problem


class Verdict(Enum):
    """What the engine has decided about a message; a source does with it what its bus can do."""

    TAKEN = auto()
    """Accepted: captures run. DONE follows when they are delivered."""
    DONE = auto()
    """Nothing more will come of it here, nor should it anywhere else: refused, too old, seen before, or finished."""
    BAD = auto()
    """It is no request that any node could obey; it was answered."""
    ELSEWHERE = auto()
    """It is for another node: whoever can have it may have it."""
    BUSY = auto()
    """This node can't now; where `Message.returnable` it comes again later."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message at once.

    `kind` is "accepted", "elsewhere" (for another node), "dryrun", "list", "cancelled", or why not: "invalid", "conflict",
    "expired", "busy", "unknown", "unavailable". `details` are what a dry run or a list tells,
    `reply_to` where a dry run is answered, if the request says so.
    """

    id: str
    kind: str
    problems: tuple[Problem, ...] = ()
    interfaces: tuple[str, ...] = ()
    hint: str = ""
    warnings: tuple[str, ...] = ()
    joined: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    reply_to: str | None = None
