"""Any JSON: a `[[trigger]]` with `kind = "json"` says by paths what is where."""

from typing import Any

from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest


def alerts(message: Any) -> list[Alert]:
    """Return an alert for an object, or for each object of an array."""
    found = message if isinstance(message, list) else [message]
    if not all(isinstance(one, dict) for one in found):
        raise NotAnAlert("must be a JSON object, or an array of objects")
    return [Alert(one, digest(one)) for one in found]
