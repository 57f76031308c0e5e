"""What is decided about a message: the answer for its sender, the verdict for its source. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

from pcapdaemon.core.request import Problem


class Verdict(Enum):
    """What the engine has decided about a message. A source does with it what its bus can do."""

    TAKEN = auto()
    """Accepted: captures run. DONE follows when their savefiles are delivered."""
    DONE = auto()
    """Nothing more will come of it here, nor should it anywhere else.

    Refused, too old, seen before, or finished.
    """
    BAD = auto()
    """It is no request that any node could obey. It was answered."""
    ELSEWHERE = auto()
    """It is for another node: whoever can have it may have it."""
    BUSY = auto()
    """This node can't take it now. Where `Message.returnable` it is redelivered later."""


class AnswerKind(StrEnum):
    """What became of a message at once. The last six are why nothing did."""

    ACCEPTED = "accepted"
    ELSEWHERE = "elsewhere"
    DRYRUN = "dryrun"
    LIST = "list"
    CANCELLED = "cancelled"
    INVALID = "invalid"
    CONFLICT = "conflict"
    EXPIRED = "expired"
    BUSY = "busy"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """The immediate answer to the sender of a message.

    `details` are those of a dry run or a list. `reply_to` is where a dry run is answered, if the
    request says so.
    """

    id: str
    kind: AnswerKind
    problems: tuple[Problem, ...] = ()
    interfaces: tuple[str, ...] = ()
    hint: str = ""
    warnings: tuple[str, ...] = ()
    joined: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    reply_to: str | None = None
