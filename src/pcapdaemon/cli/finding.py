"""The result of one check."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: its subject, whether it is good, and a message for people.

    One that is good may still warn.
    """

    subject: str
    good: bool
    words: str
    hint: str = ""
    warns: bool = False
