"""Finds sources and destinations.

They are in tables of names that can be read and grepped, and are loaded only if used.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcapdaemon.core.errors import PcapdaemonError


@dataclass(frozen=True, slots=True)
class Plugin:
    """The entry of a plug-in in its table.

    `target` is its `module:class`. `section` configures it, and the key `switch` of the section
    turns it on. `extra` is the extra of this package that installs its client library.

    If several plug-ins share a section, one is used if the key `needs` is set, and the key `unless`
    is not set or `or_with` is set too.
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
        """Return whether a section that is turned on is for this plug-in."""
        if self.needs and self.needs not in values:
            return False
        return not self.unless or self.unless not in values or self.or_with in values


def load(table: Mapping[str, Plugin], name: str) -> Any:
    """Return the plug-in's class.

    Raises PcapdaemonError if its client library is not installed.
    """
    plugin = table[name]
    module, _, cls = plugin.target.partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ModuleNotFoundError as error:
        if not plugin.extra or (error.name or "").startswith("pcapdaemon"):
            raise
        raise PcapdaemonError(
            f"{name} needs the library {error.name}",
            f"run: pip install 'pcapdaemon[{plugin.extra}]'",
        ) from None
