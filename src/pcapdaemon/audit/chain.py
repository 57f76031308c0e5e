"""The chain of an audit log: each line has the hash of the one before. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LONGEST_LINE = 1 << 20
"""Most bytes of a line that are read."""

BEGIN = b'{"seq":'
"""How each line begins."""


def digest(line: bytes) -> str:
    """Return the hash of a line, without its end."""
    return hashlib.sha256(line).hexdigest()


@dataclass(slots=True)
class Chain:
    """The end of a chain: the number of the last line, and its hash."""

    number: int = 0
    head: str = ""

    def line(self, facts: Mapping[str, Any]) -> bytes:
        """Return the next line, with its end."""
        self.number += 1
        whole = {"seq": self.number, **facts, "prev": self.head}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        line = text.encode("utf-8", "replace")
        self.head = digest(line)
        return line + b"\n"


@dataclass(slots=True)
class Verified:
    """What a check of audit logs found.

    `broken` says where the chain breaks first, and is empty if it does not. `cut` are the lines
    that a crash left unfinished.
    """

    lines: int = 0
    first: int = 0
    chain: Chain = field(default_factory=Chain)
    broken: str = ""
    cut: list[str] = field(default_factory=list)


def verify(files: Iterable[tuple[str, Iterable[bytes]]]) -> Verified:
    """Check the lines of files, given in the order in which they were written."""
    found = Verified()
    for name, lines in files:
        cut = ""
        for n, line in enumerate(lines, 1):
            where = f"{name}, line {n}"
            if cut:
                found.cut.append(cut)
                cut = ""
            facts = _facts(line)
            if facts is None and not _may_be_cut(line):
                found.broken = f"{where}: is no line of an audit log"
                return found
            if facts is None and not line.endswith(b"\n"):
                found.cut.append(where)
                continue
            if facts is None:
                cut = where  # the next line must go on from the one before
                continue
            if found.lines and (facts.get("prev"), facts.get("seq")) != (
                found.chain.head,
                found.chain.number + 1,
            ):
                found.broken = f"{where}: it does not follow line {found.chain.number} of the chain"
                return found
            found.first = found.first or int(facts["seq"])
            found.lines += 1
            found.chain = Chain(int(facts["seq"]), digest(line.rstrip(b"\n")))
        if cut:
            found.cut.append(cut)
    return found


def _may_be_cut(line: bytes) -> bool:
    """Return whether a crash while a line was written can have left this of it."""
    text = line.rstrip(b"\n")
    begin = text.rstrip(b"\0")[: len(BEGIN)]  # some file systems leave zeros
    return bool(text) and BEGIN.startswith(begin)


def end_of(lines: Iterable[bytes]) -> Chain | None:
    """Return the end of the chain in these lines, or None if none of them is of a chain."""
    last = None
    for line in lines:
        if facts := _facts(line):
            last = Chain(int(facts["seq"]), digest(line.rstrip(b"\n")))
    return last


def shown(lines: Iterable[bytes], search: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the lines that have these values, as objects."""
    for line in lines:
        facts = _facts(line)
        if facts and all(str(facts.get(name, "")) == value for name, value in search.items()):
            yield facts


def _facts(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE or not line.endswith(b"\n"):
        return None
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or type(facts.get("seq")) is not int:
        return None
    return facts
