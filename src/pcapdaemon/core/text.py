"""Makes text from strangers safe for terminals, logs and file names. Pure."""

import re
import unicodedata

_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._@=+-]+")


def printable(text: str) -> str:
    r"""Escape characters that are not printable.

    These are control and format characters (U+202E would reverse a line) and lone surrogates.

    >>> printable("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, longest: int = 300) -> str:
    """Return a text for people with at most `longest` characters.

    >>> shortened("a" * 400)[-20:]
    'a ... (400 in total)'
    """
    if len(text) <= longest:
        return text
    return f"{text[: longest - 20]} ... ({len(text)} in total)"


def path_safe(text: str, longest: int = 200) -> str:
    """Return one path component without separators, control characters or a leading dot.

    It is never empty, and has at most `longest` characters after an underscore that may be added.

    >>> path_safe("../etc/pass wd")
    '_.._etc_pass_wd'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    name = _UNSAFE_IN_NAMES.sub("_", plain)[:longest]
    return f"_{name}" if not name or name.startswith((".", "-")) else name
