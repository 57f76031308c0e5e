"""Sizes and times, as numbers or with a unit. Pure."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

BYTES = {
    "b": 1,
    **{f"{p}b": 1000**n for n, p in enumerate("kmgt", 1)},
    **{p: 1000**n for n, p in enumerate("kmgt", 1)},
    **{f"{p}ib": 1024**n for n, p in enumerate("kmgt", 1)},
}
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_WITH_UNIT = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", re.ASCII)


def in_bytes(value: Any) -> Any:
    """Return a size like "64 MiB" in bytes, and what is not text unchanged. Raises ValueError.

    >>> in_bytes("64MiB"), in_bytes("1.5 kB"), in_bytes(7)
    (67108864, 1500, 7)
    """
    return _in(BYTES, value, 'a number of bytes, or a size like "64MiB"')


def in_seconds(value: Any) -> Any:
    """Return a time like "24h" in seconds, and what is not text unchanged. Raises ValueError.

    >>> in_seconds("24h"), in_seconds("1.5m"), in_seconds(7)
    (86400, 90, 7)
    """
    return _in(SECONDS, value, 'a number of seconds, or a time like "30s" or "24h"')


def size_in_words(number: int) -> str:
    """Return a number of bytes for people, with the largest unit that keeps it above 1.

    >>> size_in_words(999), size_in_words(1536), size_in_words(64 << 20)
    ('999 B', '1.5 KiB', '64 MiB')
    """
    if number < 1024:
        return f"{number} B"
    value, units = float(number), iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = ""
    while value >= 1023.95 or not unit:
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}".replace(".0 ", " ")


def _in(units: dict[str, int], value: Any, wanted: str) -> Any:
    if not isinstance(value, str):
        return value
    found = _WITH_UNIT.fullmatch(value)
    factor = units.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise ValueError(f"must be {wanted}")
    whole, _, fraction = found[1].partition(".")
    number, rest = divmod(int(whole + fraction) * factor, 10 ** len(fraction))
    if rest:
        raise ValueError(f"must be {wanted}, without a fraction of it")
    return number


Bytes = Annotated[int, BeforeValidator(in_bytes, json_schema_input_type=int | str)]
Time = Annotated[int, BeforeValidator(in_seconds, json_schema_input_type=int | str)]
"""Seconds."""
