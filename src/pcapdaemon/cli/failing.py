"""How a command ends when it can't do what it was asked."""

import sys
from typing import NoReturn

from pcapdaemon.core.text import printable


def fail(status: int, problems: list[str], hint: str = "") -> NoReturn:
    """End with a status, and say why and what to do next."""
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    raise SystemExit(status)
