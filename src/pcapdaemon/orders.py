"""Carries out messages that don't ask for a capture."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pcapdaemon.core import intake
from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.intake import Conclusion
from pcapdaemon.core.orders import Order
from pcapdaemon.core.requester import Right, Standing, may
from pcapdaemon.runs import Runs


def obey(
    order: Order,
    source: str,
    standing: Standing,
    runs: Runs,
    presence: Mapping[str, Any],
    elsewhere: Verdict,
) -> Conclusion:
    """List what runs, or end a request, if its requester may do that.

    `presence` is what this node says of itself. `elsewhere` is the verdict if another node may have
    the request.
    """
    who, rights = standing.requester, standing.rights
    verb: Right = "cancel" if order.cancel else "list"
    if not may(rights, verb, who, who):
        return intake.forbidden(source, order, who, verb)
    if not order.cancel:
        own = None if may(rights, "list", "", who) else who
        return intake.listed(order, runs.listed(own), presence)
    own = f"{order.cancel}@{who}"
    for name in ([own] if runs.owner_of(own) == who else []) + [order.cancel]:
        owner = runs.owner_of(name)
        if owner is not None and may(rights, "cancel", owner, who) and runs.cancel(name):
            return intake.cancelled(source, replace(order, cancel=name))
    return intake.nothing_to_cancel(order, elsewhere)
