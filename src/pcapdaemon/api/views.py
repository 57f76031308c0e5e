"""Models of what the API returns, for its OpenAPI description.

They are made from the fields of the records, so that new fields are described automatically.
"""

from dataclasses import fields, is_dataclass
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, create_model

from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.core.outcome import Counts, Outcome
from pcapdaemon.core.record import ASKED, CaptureRecord, RequestRecord
from pcapdaemon.core.request import ON_THE_WIRE


@cache
def _model(kind: Any) -> type[BaseModel]:
    return create_model(kind.__name__, **_members(kind))


def _members(kind: Any, without: tuple[str, ...] = (), optional: bool = False) -> dict[str, Any]:
    """Return the fields of a dataclass, by their words on the wire."""
    hints, found = get_type_hints(kind), {}
    for field in fields(kind):
        if field.name not in without:
            of_wire = _of_wire(hints[field.name])
            found[ON_THE_WIRE.get(field.name, field.name)] = (
                (of_wire | None, None) if optional else (of_wire, ...)
            )
    return found


def _of_wire(hint: Any) -> Any:
    if is_dataclass(hint):
        return _model(hint)  # type: ignore[arg-type]  # mypy takes the class for an instance
    if not (inner := get_args(hint)):
        return hint
    inner = tuple(map(_of_wire, inner))
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, inner)
    return get_origin(hint)[inner]


CAPTURE = create_model(
    "Capture",
    **_members(Counts),
    **_members(CaptureRecord, without=("counts", "outcome", "target")),
    **_members(Outcome, without=Counts.__slots__, optional=True),
    complete=(bool | None, None),
    missing=(list[str] | None, None),
)
_ASKED: dict[str, Any] = {ON_THE_WIRE[name]: (str | int | None, None) for name in ASKED}
_ASKED["cause"] = (dict[str, str] | None, None)
REQUEST = create_model(
    "Request",
    **_members(RequestRecord, without=("captures", "asked")),
    **_ASKED,
    captures=(list[CAPTURE], ...),
)
RECORDER: Any = _model(RecorderStatus)
