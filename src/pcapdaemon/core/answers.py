"""Decisions about a message: the answer for its sender, the verdict for its source. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

from pcapdaemon.core.request import Problem


class Verdict(Enum):
    """What the engine decided about a message. Each source acts on it as far as its bus can."""

    TAKEN = auto()
    """Accepted: captures run. DONE follows when their savefiles are delivered."""
    DONE = auto()
    """This node is done with it, and no other node should process it.

    It was refused, has expired, was accepted before, or is finished.
    """
    BAD = auto()
    """No node could carry it out. It was answered."""
    ELSEWHERE = auto()
    """It is for another node, and the bus may deliver it to any other."""
    BUSY = auto()
    """This node can't accept it now. If `Message.returnable`, it is redelivered later."""


class AnswerKind(StrEnum):
    """The immediate outcome of a message. The last eight say why nothing was done."""

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
    UNTRUSTED = "untrusted"
    """Its signature is missing or wrong, and the node does nothing without."""
    FORBIDDEN = "forbidden"
    """The policy of its requester does not allow it."""
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """The immediate answer to the sender of a message.

    `details` are set for a dry run or a list. `joined` is the id of the request whose captures
    serve this one too. `reply_to` is where a dry run is answered, if the request names a place.
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
