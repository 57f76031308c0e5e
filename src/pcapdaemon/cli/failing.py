"""How a command ends with errors."""

import sys
from typing import NoReturn

from pcapdaemon.core.text import printable


def fail(status: int, problems: list[str], hint: str = "") -> NoReturn:
    """Print the problems and a hint to stderr, and exit with a status."""
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    raise SystemExit(status)
