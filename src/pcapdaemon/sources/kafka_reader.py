"""Reads Kafka in a thread of its own, for kafka.py.

It decides which partitions to read and from where, and records how far each was settled.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.text import printable
from pcapdaemon.sources.base import Message
from pcapdaemon.threads import call_in_loop

ANSWER_WITHIN = 3.0
"""Seconds that a broker may take to answer while the reader connects."""

AT_ONCE = 1000
COMMIT_EVERY = 1.0
LOOK_AGAIN = 2.0
"""Seconds until the reader checks again for the leaders of partitions that had none."""

GIVE_UP = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._FATAL}
DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}

Place = tuple[str, int]
"""A topic and a partition."""

log = structlog.get_logger()


class Positions:
    """How far each partition was read and, if positions are committed, how far it is settled.

    Both threads use it. `since` is the time of the first connection, in seconds since the epoch (0:
    not connected yet). `leaderless` are the partitions that existed then but had no leader to ask
    for their end.
    """

    def __init__(self, commit: bool) -> None:
        self.next: dict[Place, int] = {}
        self.since = 0.0
        self.leaderless: set[Place] = set()
        self.commit = commit
        self._unsettled: dict[Place, dict[int, None]] = {}
        self._committed: dict[Place, int] = {}
        self._lock = threading.Lock()

    def settler(self, place: Place, offset: int) -> Callable[[Verdict], None] | None:
        """Return the `settle` of a message, or None if positions are not committed."""
        if not self.commit:
            return None
        with self._lock:
            self._unsettled.setdefault(place, {})[offset] = None
        return partial(self._settle, place, offset)

    def forget(self, place: Place) -> None:
        """Forget a partition that is gone."""
        with self._lock:
            for table in (self.next, self._unsettled, self._committed):
                table.pop(place, None)

    def to_commit(self) -> list[TopicPartition]:
        """Return the settled positions that changed since the last call."""
        if not self.commit:
            return []
        with self._lock:
            settled = {
                place: next(iter(self._unsettled.get(place, ())), offset)
                for place, offset in self.next.items()
            }
        changed = {
            place: offset
            for place, offset in settled.items()
            if self._committed.get(place) != offset
        }
        self._committed |= changed
        return [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in changed.items()
        ]

    def _settle(self, place: Place, offset: int, verdict: Verdict) -> None:
        # a topic takes nothing back, so any verdict settles the message for this node
        with self._lock:
            self._unsettled.get(place, {}).pop(offset, None)


class Reader(threading.Thread):
    """One connection. Only this thread uses its consumer; its positions outlive it."""

    def __init__(
        self,
        options: dict[str, Any],
        topics: tuple[str, ...],
        refresh: float,
        positions: Positions,
        messages: Callable[[list[Record]], list[Message]],
        take_in: Callable[[list[Message]], None],
    ) -> None:
        super().__init__(name="pcapdaemon-kafka", daemon=True)
        self._options, self._topics, self._refresh_every, self._positions = (
            options,
            topics,
            refresh,
            positions,
        )
        self._messages, self._take_in = messages, take_in
        self._loop = loop = asyncio.get_running_loop()
        self._refreshed_at = self._committed_at = 0.0
        self._refresh_after = refresh
        self._assigned: set[Place] = set()
        self._missing: set[str] = set()
        self._down = ""
        self._last_error, self._last_code = "", 0
        self.failure = ""
        self.connected: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.ending, self.room = threading.Event(), threading.Event()

    def run(self) -> None:
        """Read until `ending` is set or the brokers are lost.

        If they are lost, `failure` says why.
        """
        consumer = None
        try:
            consumer = Consumer(self._options | {"error_cb": self._on_error})
            self._read(consumer)
            self._commit(consumer, wait=True)
        except KafkaException as error:
            self.failure = self._why(error, consumer)
        except Exception as error:
            log.exception("the reader of Kafka failed in an unforeseen way")
            self.failure = f"internal error: {type(error).__name__}"
        # before `close`, which waits for a broker that hangs
        call_in_loop(self._loop, self._report_failure)
        if consumer is not None:
            consumer.close()
        call_in_loop(self._loop, _set, self.ended)

    def _read(self, consumer: Consumer) -> None:
        consumer.poll(0)  # lets the library fetch an OAUTHBEARER token
        self._refresh(consumer)
        call_in_loop(self._loop, _set, self.connected)
        while not self.ending.is_set():
            record = consumer.poll(0.2)
            if record is not None:
                self._hand_over([record, *consumer.consume(AT_ONCE, 0)])
            if self._down:
                raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
            now = time.monotonic()
            if now - self._refreshed_at > self._refresh_after:
                self._refresh(consumer)
            if now - self._committed_at > COMMIT_EVERY:
                self._committed_at = now
                self._commit(consumer, wait=False)

    def _hand_over(self, records: list[Record]) -> None:
        good, fatal = [], None
        for record in records:
            # most errors are temporary, and the next refresh handles a topic that is gone
            if error := record.error():
                fatal = error if self._is_fatal(error) else fatal
                continue
            if record.value() is not None:  # else it is a tombstone of compaction
                good.append(record)
            self._positions.next[record.topic() or "", record.partition() or 0] = (
                record.offset() or 0
            ) + 1
        messages = self._messages(good)
        self.room.clear()
        call_in_loop(self._loop, self._take_in, messages)
        if fatal:
            raise KafkaException(fatal)
        while messages and not self.room.wait(0.2) and not self.ending.is_set():
            continue

    def _is_fatal(self, error: KafkaError) -> bool:
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED and not self._positions.commit:
            return False  # the library asks for the coordinator of a group that nobody uses
        return error.code() in DENIED or error.fatal()

    def _refresh(self, consumer: Consumer) -> None:
        """Assign new partitions, and unassign those of deleted topics."""
        there: set[Place] = set()
        for topic in self._topics:
            found = consumer.list_topics(topic, timeout=ANSWER_WITHIN).topics[topic]
            if found.error and found.error.code() in DENIED:
                raise KafkaException(found.error)
            if found.error and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._say_missing(topic)
                self._let_go(consumer, topic)
            there |= {(topic, number) for number in found.partitions}
        new = there - self._assigned
        starts = [start for place in sorted(new) if (start := self._start(consumer, place))]
        if new and not starts and not self._assigned:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no partition has a leader"))
        if starts:
            consumer.incremental_assign(starts)
            self._assigned |= {(start.topic, start.partition) for start in starts}
        if not self._positions.since:
            self._positions.since, self._positions.leaderless = time.time(), new - self._assigned
        self._refreshed_at = time.monotonic()
        self._refresh_after = (
            min(LOOK_AGAIN, self._refresh_every) if len(starts) < len(new) else self._refresh_every
        )

    def _start(self, consumer: Consumer, place: Place) -> TopicPartition | None:
        """Return where to read a partition from, or None if it has no leader now.

        That is where the last connection stopped, else the partition's end, or its beginning if it
        was found later.
        """
        positions, (topic, number) = self._positions, place
        try:
            if place not in positions.next:
                lowest, highest = consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=ANSWER_WITHIN
                )
                committed = self._committed(consumer, place)
                if committed is not None:
                    positions.next[place] = committed
                elif place in positions.leaderless:
                    positions.next[place] = self._first_since(consumer, place, highest)
                else:
                    positions.next[place] = lowest if positions.since else highest
        except KafkaException as error:
            if error.args[0].code() in DENIED or self._down:
                raise
            self._last_error = self._last_error or words_of(error)
            return None  # it has no leader now
        return TopicPartition(topic, number, positions.next[place])

    def _first_since(self, consumer: Consumer, place: Place, highest: int) -> int:
        """Return the offset of the first message since the first connection.

        One minute is allowed for clocks that differ.
        """
        moment = TopicPartition(*place, int((self._positions.since - 60) * 1000))
        offset = consumer.offsets_for_times([moment], timeout=ANSWER_WITHIN)[0].offset
        return offset if offset >= 0 else highest

    def _committed(self, consumer: Consumer, place: Place) -> int | None:
        """Return the group's position, or None if it has none.

        For a group that never committed, Apache Kafka answers -1, and other brokers answer
        GROUP_ID_NOT_FOUND.
        """
        if not self._positions.commit:
            return None
        try:
            found = consumer.committed([TopicPartition(*place)], timeout=ANSWER_WITHIN)[0]
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return None
            # without the right to read the group, the library only says that it timed out
            self._last_error = f"{words_of(error)} (is Read on the group allowed?)"
            raise
        if found.error and found.error.code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else None

    def _let_go(self, consumer: Consumer, topic: str) -> None:
        gone = {place for place in self._assigned if place[0] == topic}
        consumer.incremental_unassign([TopicPartition(*place) for place in gone])
        self._assigned -= gone
        for place in gone:
            self._positions.forget(place)

    def _say_missing(self, topic: str) -> None:
        if topic not in self._missing:
            self._missing.add(topic)
            log.warning(
                "a topic does not exist yet", topic=topic, looked_for_every=self._refresh_every
            )

    def _commit(self, consumer: Consumer, wait: bool) -> None:
        if offsets := self._positions.to_commit():
            try:
                if wait:
                    consumer.commit(offsets=offsets, asynchronous=False)
                else:
                    consumer.commit(offsets=offsets)
            except KafkaException as error:
                log.warning(
                    "positions could not be committed", source="kafka", reason=words_of(error)
                )

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in (
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
        ):
            self._last_error, self._last_code = error.str(), error.code()
        if error.code() in GIVE_UP:
            self._down = error.str()

    def _why(self, error: KafkaException, consumer: Consumer | None) -> str:
        if consumer is not None:
            consumer.poll(0)  # the library calls `_on_error`, which knows more than "timed out"
        cause = error.args[0]
        denied = cause.code() in DENIED or self._last_code in DENIED
        hint = " (see [kafka.client], and the topic's and the group's ACLs)" if denied else ""
        return printable(self._last_error or cause.str()) + hint

    def _report_failure(self) -> None:
        if not self.connected.done():
            self.connected.set_exception(NotConnected(self.failure or "closed"))
            self.connected.exception()  # marks it as retrieved: perhaps nobody waits
        self._take_in([])


def _set(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


def words_of(error: Exception) -> str:
    """Return an error of the client library in words for a person."""
    cause = error.args[0] if error.args else error
    return printable(cause.str() if isinstance(cause, KafkaError) else str(cause))
