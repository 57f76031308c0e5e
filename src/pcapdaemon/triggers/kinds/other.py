"""Any JSON: a `[[trigger]]` with `kind = "json"` says by paths what is where."""

from typing import Any

from pcapdaemon.triggers.alert import Alert, digest, objects


def alerts(message: Any) -> list[Alert]:
    """Return an alert for an object, or for each object of an array."""
    found = objects(message if isinstance(message, list) else [message])
    return [Alert(one, digest(one)) for one in found]
