"""The files of the page, which are in memory from the first request on."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""The files that browsers may load, by the ends of their names."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page, and the same compressed by gzip.

    `tag` is its entity tag (RFC 9110, section 8.8.3), without quotation marks.
    """

    content: bytes
    packed: bytes
    type: str
    tag: str


@cache
def page_files() -> dict[str, PageFile]:
    """Return the files by their paths below `/console/`. The page itself is ""."""
    found = dict(_below(files("pcapdaemon.console"), ""))
    found[""] = found["index.html"]
    return found


def _below(folder: Traversable, path: str) -> list[tuple[str, PageFile]]:
    made = []
    for one in folder.iterdir():
        if one.is_dir():
            made += _below(one, f"{path}{one.name}/")
        elif kind := TYPES.get(f".{one.name.rpartition('.')[2]}"):
            content = one.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:32]
            packed = gzip.compress(content, mtime=0)
            made.append((path + one.name, PageFile(content, packed, kind, tag)))
    return made
