"""Messages that don't ask for a capture: `{"cancel": ID}` and `{"list": true}`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcapdaemon.core.request import ADDRESS, Problem

BESIDE = {*ADDRESS, "id", "issued_at"}
"""Fields that an order may have too. Without an address, it is for every node."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order: end the captures of the request `cancel`, or if that is empty, list what runs."""

    id: str
    cancel: str = ""


def find_order(fields: Mapping[str, Any]) -> Order | list[Problem] | None:
    """Return the order in a message, or the problems with it.

    Returns None if the message is a request for a capture.
    """
    if "cancel" not in fields and "list" not in fields:
        return None
    cancel, name = (
        fields.get("cancel"),
        fields.get("id") if isinstance(fields.get("id"), str) else "",
    )
    verb = "cancel" if "cancel" in fields else "list"
    problems = [
        Problem(other, f"can't be combined with {verb}")
        for other in fields
        if other not in {verb, *BESIDE}
    ]
    if verb == "cancel" and not (isinstance(cancel, str) and 0 < len(cancel) <= 128):
        problems.append(Problem("cancel", "must be the id of a request"))
    if verb == "list" and fields["list"] is not True:
        problems.append(Problem("list", "must be true"))
    return problems or Order(str(name)[:128], str(cancel) if verb == "cancel" else "")
