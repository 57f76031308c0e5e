"""The destinations of savefiles.

A new destination is one file here, one line in this table and one fixture for the contract tests.
"""

from collections.abc import Mapping

from pcapdaemon import plugins
from pcapdaemon.core.section import Section
from pcapdaemon.destinations.base import Destination
from pcapdaemon.plugins import Plugin

TABLE = {
    "local": Plugin("pcapdaemon.destinations.local:LocalDirectory", "general", "writelocal"),
    "s3": Plugin("pcapdaemon.destinations.s3:S3", "s3", "upload", extra="aws"),
    "cloudshark": Plugin("pcapdaemon.destinations.cloudshark:CloudShark", "cloudshark", "upload"),
}


def load(name: str) -> type[Destination]:
    """Return the class of the destination with this name in the table."""
    destination: type[Destination] = plugins.load(TABLE, name)
    return destination


def prepared(sections: Mapping[str, Section]) -> dict[str, Destination]:
    """Make the destinations of these sections, by name, ready for deliveries. Blocks."""
    made = {name: load(name)(section) for name, section in sections.items()}
    for one in made.values():
        one.prepare()
    return made
