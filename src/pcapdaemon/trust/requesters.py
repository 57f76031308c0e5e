"""All requesters of this node, and how each is recognized."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from pcapdaemon.core.requester import Group, Requester, Rights, matches

if TYPE_CHECKING:
    from pcapdaemon.trust.keys import PublicKey

T = TypeVar("T")

TOKEN = re.compile(r"sha256:[0-9a-f]{64}")
"""A token as the configuration has it, so that the file does not contain the secret."""


def digest(token: bytes) -> str:
    """Return a token as the configuration has it."""
    return "sha256:" + hashlib.sha256(token).hexdigest()


class Requesters:
    """The requesters, with the rights of their groups. `problems` are what is wrong with them."""

    def __init__(self, requesters: Sequence[Requester], groups: Sequence[Group]) -> None:
        self.problems: list[str] = []
        known = {one.name: one for one in groups}
        self._named: dict[str, Requester] = {}
        self._keys: dict[str, tuple[Requester, PublicKey]] = {}
        self._authorities: dict[str, list[Requester]] = {}
        self._tokens: dict[str, Requester] = {}
        for n, one in enumerate(requesters, 1):
            label = f"[[requester]] number {n} ({one.name})"
            if one.name in self._named:
                self.problems.append(f"{label}: there is another requester {one.name}")
            if one.group and one.group not in known:
                self.problems.append(f"{label} group: there is no [[group]] {one.group}")
            whole = with_group(one, known.get(one.group))
            self._named[one.name] = whole
            self._add(whole, label)

    def __bool__(self) -> bool:
        return bool(self._named)

    def __iter__(self) -> Iterator[Requester]:
        return iter(self._named.values())

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of all keys and authorities, and whose they are."""
        found = {key: one.name for key, (one, _) in self._keys.items()}
        for authority, several in self._authorities.items():
            found[authority] = ", ".join(one.name for one in several)
        return found

    def named(self, name: str) -> Requester | None:
        """Return the requester of this name, or the one whose name is a glob that matches it."""
        if found := self._named.get(name):
            return found
        globs = (one for one in self._named.values() if "*" in one.name)
        return next((one for one in globs if fnmatchcase(name, one.name)), None)

    def of_key(self, fingerprint: str) -> "tuple[Requester, PublicKey] | None":
        """Return whose key this is, and the key."""
        return self._keys.get(fingerprint)

    def of_authority(self, fingerprint: str) -> list[Requester]:
        """Return the requesters that trust this authority."""
        return self._authorities.get(fingerprint, [])

    def of_token(self, token: bytes) -> Requester | None:
        """Return whose token this is."""
        return self._tokens.get(digest(token))

    def of_user(self, names: Sequence[str]) -> Requester | None:
        """Return the requester of a user of this host, who has these names and numbers."""
        return next((one for one in self if set(one.users) & set(names)), None)

    def of_certificate(self, names: Sequence[str]) -> Requester | None:
        """Return the requester of a TLS client whose certificate has these names."""
        return next((one for one in self if set(one.certificates) & set(names)), None)

    def of_subject(self, subject: str) -> Requester | None:
        """Return the requester of the subject of an OIDC token."""
        return next((one for one in self if one.subjects and matches(one.subjects, subject)), None)

    def _add(self, one: Requester, label: str) -> None:
        if one.keys or one.authorities:
            self._add_keys(one, label)
        for token in one.tokens:
            if not TOKEN.fullmatch(token):
                words = "must be sha256: and 64 hexadecimal digits, see 'pcapdaemon keys token'"
                self.problems.append(f"{label} tokens: {words}")
            elif token in self._tokens:
                self.problems.append(f"{label} tokens: a token is that of another requester too")
            self._tokens[token] = one
        if one.until:
            self._checked(f"{label} until", date.fromisoformat, one.until)

    def _add_keys(self, one: Requester, label: str) -> None:
        try:
            from pcapdaemon.trust import keys  # noqa: PLC0415  # its library is an extra
        except ModuleNotFoundError as error:
            words = f"needs the library {error.name}: run pip install 'pcapdaemon[trust]'"
            self.problems.append(f"{label} keys: {words}")
            return
        for line in one.keys:
            if key := self._checked(f"{label} keys", keys.public_key, line):
                if other := self._keys.get(key.fingerprint):
                    words = f"the key {key.fingerprint} is that of {other[0].name} too"
                    self.problems.append(f"{label} keys: {words}")
                self._keys[key.fingerprint] = one, key
        for line in one.authorities:
            if found := self._checked(f"{label} authorities", keys.authority, line):
                self._authorities.setdefault(found, []).append(one)

    def _checked(self, label: str, read: Callable[[str], T], text: str) -> T | None:
        try:
            return read(text)
        except ValueError as error:
            self.problems.append(f"{label}: {error}")
            return None


def with_group(requester: Requester, group: Group | None) -> Requester:
    """Return a requester that has the rights of its group where it has none itself."""
    if group is None:
        return requester
    own = requester.model_fields_set
    given = {key: getattr(group, key) for key in Rights.model_fields if key not in own}
    return requester.model_copy(update=given)


def is_over(requester: Requester, now: float | None = None) -> bool:
    """Return whether its keys and tokens are valid no longer. `now` is seconds since the epoch."""
    if not requester.until:
        return False
    today = datetime.fromtimestamp(time.time() if now is None else now, UTC).date()
    return today > date.fromisoformat(requester.until)
