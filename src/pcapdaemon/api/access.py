"""Who calls the API, and what a caller may do."""

import grp
import hmac
import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import HTTPException, Request

from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.node_events import SavefileFetched
from pcapdaemon.core.requester import HTTP, LOCAL, Requester, Right, Rights, matches, may
from pcapdaemon.sockets import user_of
from pcapdaemon.sources.http import HttpSettings
from pcapdaemon.threads import Few
from pcapdaemon.trust.requesters import Requesters, is_over

R = TypeVar("R")

MOST_LOOKUPS = 16
"""Most users of this host that are looked up at the same time, each in a thread."""

NOTHING = Rights.model_construct(may=())

Subject = Callable[[str], Awaitable[str]]
"""Returns the subject of a valid OIDC token, or ""."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a connection says of its other end.

    `user` is the number of a user of this host on the Unix socket. `names` are those in the
    certificate of a TLS client.
    """

    user: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request to the API.

    `rights` are None if this node knows no requesters: everything is allowed then.
    """

    name: str = ""
    rights: Rights | None = None

    def may(self, right: Right, owner: str = "") -> bool:
        """Return whether something is allowed, for a request of `owner`."""
        return may(self.rights, right, owner, self.name)

    def sees(self, owner: str | None) -> bool:
        """Return whether the records of a requester are shown."""
        return self.may("list", owner or "")


class Door:
    """Recognizes callers. `subject_of` reads OIDC tokens, if the configuration has an issuer."""

    def __init__(
        self,
        settings: HttpSettings,
        requesters: Requesters,
        node: str = "",
        subject_of: Subject | None = None,
    ) -> None:
        self._settings, self._requesters, self._node = settings, requesters, node
        self._subject_of, self._threads = subject_of, Few(MOST_LOOKUPS)

    @property
    def nobody(self) -> Caller:
        """Whoever uses a path that needs no proof."""
        return Caller("", NOTHING if self._requesters else None)

    def differs(self, other: "Door") -> bool:
        """Return whether other callers, or other rights, count there."""
        same = list(self._requesters) == list(other._requesters)
        return not same or self._settings != other._settings or self._node != other._node

    async def caller(self, authorization: bytes, peer: Peer) -> Caller | None:
        """Return who calls, or None if the caller must prove it."""
        if authorization and (self._requesters or self._settings.token):
            name = await self._of_token(authorization)
        else:
            name = await self._of_peer(peer)
        if name is None:
            return None
        if not self._requesters:
            return Caller()
        found = self._requesters.named(name)
        return Caller(name, found if found and self._counts(found) else NOTHING)

    def _counts(self, found: Requester) -> bool:
        """Return whether the rights of a requester count here and now."""
        here = matches(found.nodes, self._node) and matches(found.sources, HTTP)
        return here and not is_over(found)

    async def _of_token(self, authorization: bytes) -> str | None:
        scheme, _, shown = authorization.partition(b" ")
        shown = shown.strip()
        if scheme.lower() != b"bearer":
            return None
        own = self._settings.token
        if own and hmac.compare_digest(shown, own.get_secret_value().encode()):
            return HTTP
        if (found := self._requesters.of_token(shown)) and not is_over(found):
            return found.name
        subject = await self._subject_of(shown.decode("latin-1")) if self._subject_of else ""
        by_subject = self._requesters.of_subject(subject) if subject else None
        return by_subject.name if by_subject else None

    async def _of_peer(self, peer: Peer) -> str | None:
        if peer.names:
            found = self._requesters.of_certificate(peer.names)
            return found.name if found else None if self._requesters else LOCAL
        if peer.user is not None:
            return await self._of_user(peer.user)
        # whoever can reach the port of loopback is a user of this host, but which one?
        proves = self._settings.token or self._settings.socket
        return None if proves or not is_loopback(self._settings.host) else LOCAL

    async def _of_user(self, user: int) -> str | None:
        if not self._requesters:
            trusted = self._settings.token is None or user in (0, os.geteuid())
            return LOCAL if trusted else None
        found = self._requesters.of_user(await self._threads.run(names_of, user))
        return found.name if found else LOCAL


def names_of(user: int) -> list[str]:
    """Return the number and the name of a user of this host, and its groups as `%NAME`."""
    names = [str(user)]
    try:
        found = pwd.getpwuid(user)
    except KeyError:
        return names
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return [*names, found.pw_name, *(f"%{one}" for one in map(_group_name, groups) if one)]


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""


def caller_of(request: Request) -> Caller:
    """Return who sent a request."""
    found: Caller = request.scope["caller"]
    return found


def fetched(request: Request, request_id: str, name: str) -> SavefileFetched:
    """Return the event of a caller that fetches a savefile of a request."""
    client = (request.scope["client"] or ("",))[0]
    return SavefileFetched(request_id, name, caller_of(request).name, client)


def refuse_without(request: Request, right: Right, owner: str | None = "") -> Caller:
    """Return who sent a request, or raise HTTPException if that is not allowed."""
    caller = caller_of(request)
    if not caller.may(right, owner if owner is not None else caller.name):
        words = f"{caller.name} may not do this: {right} is not in [[requester]] may"
        raise HTTPException(403, words)
    return caller


async def refuse_other_users(request: Request, settings: HttpSettings) -> None:
    """Raise HTTPException for all but root and the daemon's user.

    It is for what the daemon's own files contain, on a node that knows no requesters. Whoever shows
    the token, or a certificate, may have them.
    """
    if caller_of(request).rights is not None:
        return
    peer: Peer = request.scope["state"]["peer"]
    if peer.user is None and (settings.token is not None or peer.names):
        return
    words = "only root and the user of the daemon may fetch savefiles without a token"
    try:
        user = await _user_of(request, peer)
    except OSError as error:
        user, words = None, f"{words}, and your user can't be found out ({error})"
    if user not in (0, os.geteuid()):
        raise HTTPException(403, f"{words}; set [http] token_file")


async def _user_of(request: Request, peer: Peer) -> int | None:
    if peer.user is not None:
        return peer.user
    client, server = request.scope["client"], request.scope["server"]
    return await in_thread(request, user_of, tuple(client), tuple(server))


async def in_thread(request: Request, work: Callable[..., R], *args: Any) -> R:
    """Run work for a request in one of the API's few threads, and wait for its result."""
    threads: Few = request.scope["threads"]
    return await threads.run(work, *args)


def refuse_narrow(request: Request) -> Caller:
    """Raise HTTPException for who may see some interfaces only, where all of them are shown."""
    caller = caller_of(request)
    if caller.rights is not None and caller.rights.interfaces:
        words = f"{caller.name} may not see all interfaces ([[requester]] interfaces)"
        raise HTTPException(403, words)
    return caller
