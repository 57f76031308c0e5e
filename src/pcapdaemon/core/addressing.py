"""Which nodes a message is for. Pure."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import re2

LONGEST_PATTERN = 256
"""Most characters of `nodere`. Compiling one takes less than a millisecond."""


def addressed_to(fields: dict[str, Any], node: str, labels: Mapping[str, str]) -> bool:
    """Return whether a message is for this node.

    Also True if that is unknown, because the message must then be answered.
    """
    wanted = fields.get("labels")
    if wanted and isinstance(wanted, dict) and not _labels_match(wanted, labels):
        return False
    name, pattern = fields.get("node"), fields.get("nodere")
    if name and not pattern and isinstance(name, str):
        return name in (node, "any")
    if pattern and not name and isinstance(pattern, str) and len(pattern) <= LONGEST_PATTERN:
        try:
            return _compiled(pattern).search(node) is not None
        except re2.error:
            return True
    return True


def _labels_match(wanted: dict[str, Any], labels: Mapping[str, str]) -> bool:
    globs = (
        (name, glob) for name, glob in wanted.items() if isinstance(glob, str) and len(glob) <= 128
    )
    return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in globs)


def pattern_problems(pattern: str) -> list[str]:
    """Return what is wrong with an expression for names of nodes."""
    try:
        _compiled(pattern)
    except re2.error as error:
        words = (
            error.args[0].decode("utf-8", "replace")
            if isinstance(error.args[0], bytes)
            else str(error)
        )
        return [f"not a valid RE2 expression: {words}"]
    return []


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    # RE2 has Go's syntax and takes linear time. Python's `re` takes seconds for 27 characters of
    # `(a+)+$`.
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 18
    return re2.compile(pattern, options)
