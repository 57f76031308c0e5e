"""How sources and destinations are found.

A table of names that can be read and grepped, loaded only if chosen.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcapdaemon.core.errors import PcapdaemonError


@dataclass(frozen=True, slots=True)
class Plugin:
    """Where a plug-in is, which section configures it.

    It key of it switches it on, and which extra it needs.

    Of several in one section those are on whose key `needs` is there, and whose key `unless` is
    not, or `or_with` is too.
    """

    target: str
    section: str = ""
    switch: str = ""
    extra: str = ""
    needs: str = ""
    unless: str = ""
    or_with: str = ""
    is_bus: bool = False
    """Requests can be sent over it, by `pcapdaemon request --via`."""

    def is_meant(self, values: Mapping[str, Any]) -> bool:
        """Whether a section that is switched on means this one."""
        if self.needs and self.needs not in values:
            return False
        return not self.unless or self.unless not in values or self.or_with in values


def load(table: Mapping[str, Plugin], name: str) -> Any:
    """The plug-in's class; raises PcapdaemonError where its client library is not installed."""
    plugin = table[name]
    module, _, cls = plugin.target.partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ModuleNotFoundError as error:
        if not plugin.extra or (error.name or "").startswith("pcapdaemon"):
            raise
        raise PcapdaemonError(
            f"{name} needs the library {error.name}",
            f"install it: pip install 'pcapdaemon[{plugin.extra}]'",
        ) from None
