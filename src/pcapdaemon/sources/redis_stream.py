"""Requests from a Redis stream.

A stream keeps its entries, and each node reads it with a consumer group of its own. The group
records how far the node has read, across restarts of the node and of the server
(redis.io/docs/data-types/streams).
"""

import asyncio
import json
import random
import time
from collections import deque
from functools import partial
from typing import Any

import structlog
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.sources.base import Message
from pcapdaemon.sources.redis import RedisBus, RedisSettings, drop

log = structlog.get_logger()

BLOCK_MS = 1000
"""Milliseconds that one read waits; acknowledgements are sent with the next read."""

MOST_AT_ONCE = 32
"""Most entries of one read. It begins with one, and grows while entries are short."""

MOST_FAILURES = 3

LONG_ENTRY = 256 * 1024
"""Bytes of an entry after which the next read asks for only one: none is longer than a request."""

SIGN_OF_LIFE = 60.0
"""Seconds between reads of the pending entries, even if there are none.

Before version 7.2, Redis counts only these reads as activity.
"""


class RedisStreamSource(RedisBus):
    """Reads a stream with a consumer group of this node's own.

    It reads this node's pending entries first. Settled entries are acknowledged with the next read,
    at most BLOCK_MS later. A BUSY entry stays pending and is read again.
    """

    name = "redis-stream"

    def __init__(self, settings: RedisSettings, node: str) -> None:
        super().__init__(settings, node)
        self._stream, self._group = str(settings.stream), settings.group.replace("{node}", node)
        self._last: bytes | None = None  # the last entry that was delivered to the group
        self._buffer: deque[Message] = deque()
        self._held: set[bytes] = set()
        self._acks: list[bytes] = []
        self._pending_from: bytes | None = b"0"
        self._at_once, self._failures, self._failed_at = 1, 0, b""
        self._again_at = time.monotonic() + SIGN_OF_LIFE

    @classmethod
    def redelivers(cls, settings: Any) -> bool:
        """A stream redelivers the entries that were not acknowledged."""
        return True

    @property
    def address(self) -> str:
        """The server, stream and group."""
        return f"{self.server} stream {self._stream} group {self._group}"

    async def connect(self) -> None:
        """Create the group if it is missing.

        A new one begins with entries added from now on. If it vanished while this node listened, it
        goes on after the last entry.
        """
        try:
            self.client = self.make_client()
            await self._create_group(self.client)
        except (RedisError, OSError) as error:
            raise self.lost(error) from None
        self._pending_from = b"0"
        await self._skip_unreadable()

    async def receive(self) -> Message:
        """Return the next entry."""
        while not self._buffer:
            try:
                await self._read()
            except (RedisError, OSError) as error:
                # Only an answer that does not come in time can be the fault of an entry.
                late = isinstance(error, RedisTimeout) and self._pending_from is not None
                self._failures += late and self._at_once == 1
                self._at_once = 1
                raise self.lost(error) from None
        return self._buffer.popleft()

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Add an entry to the stream, or publish on the channel `to`."""
        if to is not None:
            return await self.publish(body, to)
        async with self.any_client() as client:
            await client.xadd(self._stream, {"request": body})
        return None

    async def close(self) -> None:
        """Acknowledge the settled entries, within 2 seconds, and drop the connection."""
        client, self.client = self.client, None
        if client is not None and self._acks:
            try:
                async with asyncio.timeout(2):
                    await self._acknowledge(client)
            except (RedisError, OSError, TimeoutError):
                pass  # they are redelivered, and recognized as duplicates
        await drop(client)

    async def _create_group(self, client: Any) -> None:
        newest = await self._newest(client)
        after = newest or b"$" if self._last is None else self._last
        if self._last and newest and _order(newest) < _order(self._last):
            after = b"0"  # it is another stream, and all its entries are new
        try:
            await client.xgroup_create(self._stream, self._group, id=after or b"0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            after = await self._delivered(client)
        if self._last is None:
            self._last = after.removeprefix(b"$")

    async def _newest(self, client: Any) -> bytes | None:
        """Return the stream's last entry, 0-0 if there is no stream, None if it can't be known."""
        try:
            found = await client.xinfo_stream(self._stream)
        except NoPermissionError:
            return None
        except ResponseError as error:
            return b"0-0" if "no such key" in str(error) else None
        return bytes(found["last-generated-id"])

    async def _delivered(self, client: Any) -> bytes:
        """Return the last entry that was delivered to the group, b"" if it can't be known."""
        try:
            groups = await client.xinfo_groups(self._stream)
        except ResponseError:
            return b""
        name = self._group.encode()
        return next((one["last-delivered-id"] for one in groups if one["name"] == name), b"")

    async def _read(self) -> None:
        client = self.client
        if client is None:
            raise NotConnected(f"{self.address}: closed")
        await self._acknowledge(client)
        if time.monotonic() >= self._again_at:
            self._again_at, self._pending_from = time.monotonic() + SIGN_OF_LIFE, b"0"
        since, block = (
            (self._pending_from, None) if self._pending_from is not None else (b">", BLOCK_MS)
        )
        reply: Any = await client.xreadgroup(
            self._group, self.node, {self._stream: since}, count=self._at_once, block=block
        )
        entries = reply[0][1] if reply else []
        self._failures = 0
        long = any(_length(fields) > LONG_ENTRY for _, fields in entries)
        self._at_once = 1 if long else min(self._at_once * 2, MOST_AT_ONCE)
        if self._pending_from is not None:
            self._pending_from = entries[-1][0] if entries else None
        elif entries:
            self._last = entries[-1][0]
        for entry_id, fields in entries:
            self._take_in(entry_id, fields)

    async def _skip_unreadable(self) -> None:
        """Acknowledge the first pending entry if MOST_FAILURES reads of it failed, one by one.

        Otherwise an entry that is too long to be read in time would keep this node from all later
        entries.
        """
        if not self._failures:
            return
        client: Any = self.client
        try:
            pending = await client.xpending_range(
                self._stream, self._group, min="-", max="+", count=1, consumername=self.node
            )
        except (RedisError, OSError):  # the user may lack this command
            return
        first = pending[0]["message_id"] if pending else b""
        if first != self._failed_at:
            self._failed_at, self._failures = first, 1
        elif first and first not in self._held and self._failures >= MOST_FAILURES:
            log.error("an entry that can't be read is skipped", source=self.name, entry=first)
            self._acks.append(first)
            self._failures = 0

    def _take_in(self, entry_id: bytes, fields: dict[bytes, bytes] | None) -> None:
        # read again after a reconnect, while the engine has it, or has settled it just now
        if entry_id in self._held or entry_id in self._acks:
            return
        if not fields:  # trimmed while it was pending
            self._acks.append(entry_id)
            return
        self._held.add(entry_id)
        settle = partial(self._settle, entry_id)
        sent_at = int(entry_id.partition(b"-")[0]) / 1000
        key = f"{self._stream} {entry_id.decode()}"
        self._buffer.append(
            Message(_body(fields), self.name, sent_at, key, settle, self.answer, returnable=True)
        )

    def _settle(self, entry_id: bytes, verdict: Verdict) -> None:
        if entry_id not in self._held:  # DONE after TAKEN
            return
        self._held.discard(entry_id)
        if verdict is Verdict.BUSY:
            again_at = time.monotonic() + random.uniform(1, 3)  # noqa: S311  # jitter
            self._again_at = min(self._again_at, again_at)
        else:
            self._acks.append(entry_id)

    async def _acknowledge(self, client: Any) -> None:
        acks, self._acks = self._acks, []
        try:
            if acks:
                await client.xack(self._stream, self._group, *acks)
        except BaseException:
            self._acks = acks + self._acks
            raise


async def prune(
    settings: RedisSettings, idle_seconds: float, dry_run: bool
) -> list[tuple[str, float]]:
    """Remove the consumer groups of nodes that have not read for `idle_seconds`.

    Returns their names and idle times in seconds. `dry_run` removes nothing. Raises NotConnected.
    """
    source = RedisStreamSource(settings, "nobody")
    before, _, after = settings.group.partition("{node}")
    found = []
    async with source.any_client() as client:
        for group in await client.xinfo_groups(settings.stream):
            name = group["name"].decode()
            if not (name.startswith(before) and name.endswith(after)):
                continue
            consumers = await client.xinfo_consumers(settings.stream, name)
            idle = min((one["idle"] / 1000 for one in consumers), default=0)
            if idle >= idle_seconds:
                found.append((name, idle))
                if not dry_run:
                    await client.xgroup_destroy(settings.stream, name)
    return found


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


def _length(fields: dict[bytes, bytes] | None) -> int:
    return sum(len(name) + len(value) for name, value in (fields or {}).items())


def _body(fields: dict[bytes, bytes]) -> bytes:
    """Return the field `request`, or the only field.

    Other entries become a JSON object of their fields, so that the answer can say what is wrong.
    """
    if b"request" in fields or len(fields) == 1:
        return fields.get(b"request", next(iter(fields.values())))
    return json.dumps(
        {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
        }
    ).encode()
