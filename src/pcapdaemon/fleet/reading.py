"""What nodes send back, as far as people see it.

It may come from a node of another version, or from a program that is no node at all. So it is
checked once, here, and everything after that can rely on its form. Pure.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator

from pcapdaemon.core.outcome import Lookback
from pcapdaemon.core.text import printable


class _Shown(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, found: Any) -> Any:
        if isinstance(found, Mapping):
            return {name: value for name, value in found.items() if value is not None}
        return found


class _Receipt(_Shown):
    where: str = ""


class Capture(_Shown):
    """A capture in a record. Fields that a node of another version lacks have a default."""

    interface: str = ""
    state: str
    linktype: str = ""
    snap: int = 0
    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_by_interface: int = 0
    stop_reason: str = ""
    missing: list[str] = []
    lookback: Lookback | None = None
    sha256: str = ""
    delivered: dict[str, _Receipt] = {}
    pending: list[str] = []
    reason: str = ""
    hint: str = ""


class Counted(_Shown):
    """The counts of a running capture."""

    packets: int = 0
    bytes: int = 0


class Running(_Shown):
    """A running request in the answer to a list."""

    id: str
    since: float = 0.0
    bpf: str = ""
    captures: dict[str, Counted] = {}


class Answer(_Shown):
    """The immediate answer to a message: a request that runs, a dry run, or a list."""

    id: str
    state: str
    interface: list[str] = []
    warnings: list[str] = []
    limits: dict[str, int | float] = {}
    unavailable: dict[str, str] = {}
    targets: dict[str, dict[str, Any]] = {}
    running: list[Running] = []
    href: str = ""
    detail: str = ""


class Record(Answer):
    """A node's record of a request."""

    node: str = ""
    problems: list[str] = []
    received_at: float = 0.0
    joined: str = ""
    captures: list[Capture] = []


class Presence(_Shown):
    """The answer of a node to a list: what it is, and what runs."""

    version: str = ""
    labels: dict[str, str] = {}
    interface: list[str] = []
    recorders: list["Recorder"] = []
    running: list[Running] = []
    memory: int = 0
    used: int = 0
    url: str = ""


class Limits(_Shown):
    """The limits of a node. `lookback` and the others are seconds."""

    lookback: float = 0
    duration: float = 3600
    timeout: float = 3600


class Node(_Shown):
    """What a node is, as its API says."""

    node: str
    version: str = ""
    limits: Limits = Limits()
    labels: dict[str, str] = {}
    profiles: dict[str, dict[str, Any]] = {}


class Interface(_Shown):
    """An interface of a node."""

    name: str
    kind: str = ""
    up: bool = True
    allowed: bool = True
    recorder: bool = False
    linktype: str = ""
    addresses: list[str] = []
    aliases: list[str] = []


class Checked(_Shown):
    """Whether a filter is valid."""

    valid: bool
    instructions: int = 0
    error: str = ""


class Summary(_Shown):
    """What is in a savefile."""

    packets: int = 0
    bytes: int = 0
    whole: bool = True
    protocols: dict[str, int] = {}
    talkers: list[dict[str, Any]] = []


class Shown(_Shown):
    """A packet in words."""

    number: int
    at: float = 0.0
    source: str = ""
    destination: str = ""
    protocol: str = ""
    info: str = ""


class _Packets(_Shown):
    packets: list[Shown] = []


class About(_Shown):
    """What some results say of their request."""

    model_config = ConfigDict(extra="ignore")

    bpf: str = ""
    cause: dict[str, str] = {}


class Recorder(_Shown):
    """The state of a recorder."""

    interface: str
    recording: bool
    reason: str = ""
    bpf: str = ""
    seconds: int = 0
    covered: float = 0.0
    memory: int = 0
    bytes: int = 0
    packets: int = 0
    dropped: int = 0
    captures: int = 0
    cpu: float = 0.0
    target: dict[str, Any] | None = None


class Judged(_Shown):
    """What became of an alert."""

    outcome: str
    id: str = ""
    reason: str = ""
    notes: list[str] = []


class _Alerts(_Shown):
    alerts: list[Judged]


_RECORDERS, _RECORDS = TypeAdapter(list[Recorder]), TypeAdapter(list[Record])
_INTERFACES: TypeAdapter[Any] = TypeAdapter(list[Interface])


class _Problem(_Shown):
    field: str = ""
    message: str = ""


class Refusal(_Shown):
    """Why the API refused a request: problem details (RFC 9457) with the problems of its fields."""

    title: str = ""
    detail: str = ""
    hint: str = ""
    errors: list[_Problem] = []

    @property
    def problems(self) -> list[str]:
        """One line per problem."""
        return [f"{one.field}: {one.message}".removeprefix(": ") for one in self.errors]


def answer(found: Any) -> dict[str, Any]:
    """Return the answer to a message. Raises ValueError if it is none.

    If it is a whole record, because the request is already finished, it has `captures`.
    """
    kind = Record if isinstance(found, Mapping) and "captures" in found else Answer
    return kind.model_validate(_harmless(found)).model_dump()


def record(found: Any) -> dict[str, Any]:
    """Return a node's record of a request. Raises ValueError if it is none."""
    return Record.model_validate(_harmless(found)).model_dump()


def all_records(found: Any) -> list[dict[str, Any]]:
    """Return the records of several requests. Raises ValueError."""
    return _RECORDS.dump_python(_RECORDS.validate_python(_harmless(found)))  # type: ignore[no-any-return]


def presence(found: Any) -> dict[str, Any]:
    """Return what a node says of itself. Raises ValueError."""
    return Presence.model_validate(_harmless(found)).model_dump()


def about(found: Any) -> dict[str, Any]:
    """Return what a result says of its request. Raises ValueError."""
    return About.model_validate(_harmless(found)).model_dump(exclude_unset=True)


def node(found: Any) -> dict[str, Any]:
    """Return what a node is. Raises ValueError."""
    return Node.model_validate(_harmless(found)).model_dump()


def interfaces(found: Any) -> list[dict[str, Any]]:
    """Return the interfaces of a node. Raises ValueError."""
    return _INTERFACES.dump_python(_INTERFACES.validate_python(_harmless(found)))  # type: ignore[no-any-return]


def checked(found: Any) -> dict[str, Any]:
    """Return whether a filter is valid. Raises ValueError."""
    return Checked.model_validate(_harmless(found)).model_dump()


def summary(found: Any) -> dict[str, Any]:
    """Return what is in a savefile. Raises ValueError."""
    return Summary.model_validate(_harmless(found)).model_dump()


def packets(found: Any) -> list[dict[str, Any]]:
    """Return packets in words. Raises ValueError."""
    shown = _Packets.model_validate(_harmless(found)).packets
    return [one.model_dump() for one in shown]


def recorders(found: Any) -> list[dict[str, Any]]:
    """Return the states of a node's recorders. Raises ValueError."""
    return _RECORDERS.dump_python(_RECORDERS.validate_python(_harmless(found)))  # type: ignore[no-any-return]


def alerts(found: Any) -> list[dict[str, Any]]:
    """Return what became of alerts. Raises ValueError."""
    judged = _Alerts.model_validate(_harmless(found)).alerts
    return [one.model_dump() for one in judged]


def refusal(found: Any) -> Refusal:
    """Return why a request was refused. Raises ValueError if it is something else."""
    return Refusal.model_validate(_harmless(found))


def _harmless(value: Any) -> Any:
    """Return a JSON value without characters that a terminal would obey."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list | tuple):
        return [_harmless(one) for one in value]
    if isinstance(value, Mapping):
        return {printable(str(name)): _harmless(one) for name, one in value.items()}
    return value
