"""Requests from Amazon SQS: a queue of this node's own behind SNS, or one that nodes share.

SQS gives each message to one consumer. A message for another node is returned to a shared queue,
and deleted from a queue of this node's own. Limits and fields are those of the SQS API reference,
version 2012-11-05.
"""

import asyncio
import random
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Self

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.core.request import new_id
from pcapdaemon.sources.base import Bus, Message
from pcapdaemon.sources.sqs_client import make_client, reason_of
from pcapdaemon.sources.sqs_envelopes import unwrap
from pcapdaemon.sources.sqs_settings import SqsSettings
from pcapdaemon.tasks import keep_up
from pcapdaemon.threads import look_at, run_in_thread

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

BATCH = 10
"""Most entries of one call; a limit of SQS."""

LONGEST_PAUSE, LONGEST_HELD = 5, 12 * 3600  # seconds; SQS hides no message for longer

SHORT_POLL = 1  # second

Name = Annotated[str, Field(min_length=1)]
UNSENDABLE = ("InvalidMessageContents", "InvalidParameterValue", "MessageTooLong")
"""Error codes for a message that SQS will never take: too long, or with forbidden characters."""

Receipt = str

log = structlog.get_logger()


class SqsSource(Bus):
    """A queue that is polled by one thread at a time.

    Verdicts are carried out in the background, in batches.
    """

    name = "sqs"
    hears_all = False
    Settings = SqsSettings

    def __init__(self, settings: SqsSettings, node: str) -> None:
        self.settings, self.node = settings, node
        self._client: SQSClient | None = None
        self._url = ""
        self._buffer: deque[Message] = deque()
        self._polling: asyncio.Future[None] | None = None
        self._verdicts: asyncio.Queue[tuple[Receipt, int | None]] = asyncio.Queue()
        self._open: set[Receipt] = set()
        self._held: dict[Receipt, float] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._numbers = count()

    @classmethod
    def redelivers(cls, settings: Any) -> bool:
        """A queue redelivers the messages that were not deleted."""
        return True

    @property
    def address(self) -> str:
        """The queue's URL or name."""
        return self._url or self.settings.url or f"sqs queue {self._queue_name}"

    @classmethod
    def of_answers(cls, settings: SqsSettings, node: str, place: str) -> Self:
        """Return a source that receives the results of one queue; others may read it too."""
        where = {"url": place, "queue": None} if "://" in place else {"url": None, "queue": place}
        mode = {"shared": True, "waitseconds": SHORT_POLL}
        return cls(settings.model_copy(update={**where, **mode}), node)

    async def connect(self) -> None:
        """Find the queue, and check that it can be read."""
        await run_in_thread(self._connect)
        if not self._workers:
            self._workers = [
                asyncio.create_task(keep_up(self._carry_out)),
                asyncio.create_task(keep_up(self._keep_invisible)),
            ]

    async def receive(self) -> Message:
        """Return the next message.

        If it is cancelled, the poll continues, and the next call waits for it.
        """
        while not self._buffer:
            if self._polling is None:
                self._polling = asyncio.ensure_future(run_in_thread(self._poll))
                self._polling.add_done_callback(look_at)
            polling = self._polling
            try:
                await asyncio.shield(polling)
            finally:
                if polling.done():
                    self._polling = None
        return self._buffer.popleft()

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Send one message to the queue, or to `to`.

        If each node has a queue of its own, only one node receives it.
        """
        await run_in_thread(self._send, body, to)
        return None

    async def check(self, place: str) -> str:
        """Return why the queue for results can't be found, or ""."""
        return await run_in_thread(self._check, place)

    async def close(self) -> None:
        """Return what nobody took to the queue, and carry out the pending verdicts, within seconds.

        A short poll is awaited, because it may hide a message from the next reader. A longer one
        is left behind.
        """
        polling, self._polling = self._polling, None
        if polling and self.settings.waitseconds <= SHORT_POLL:
            await asyncio.wait([polling], timeout=3)
        for message in self._buffer:
            if message.settle:
                message.settle(Verdict.BUSY)
        self._buffer.clear()
        if self._workers:
            try:
                async with asyncio.timeout(3):
                    await self._verdicts.join()
            except TimeoutError:
                log.warning(
                    "verdicts on messages could not be carried out: they are redelivered",
                    source=self.name,
                    reason="not within 3 s",
                )
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers, self._client = [], None

    @property
    def _queue_name(self) -> str:
        return (self.settings.queue or "").replace("{node}", self.node)

    def _connect(self) -> None:
        try:
            client = self._client = self._client or make_client(self.settings)
            self._url = (
                self._url
                or self.settings.url
                or client.get_queue_url(QueueName=self._queue_name)["QueueUrl"]
            )
            attributes = client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["RedrivePolicy"]
            ).get("Attributes", {})
        except (BotoCoreError, ClientError) as error:
            raise self._lost(error) from None
        if self.settings.shared and "RedrivePolicy" in attributes:
            words = "every node that returns a message counts as one receive"
            log.warning(
                "a shared queue with a dead-letter queue loses good messages to it",
                queue=self._url,
                reason=words,
            )

    def _poll(self) -> None:
        client = self._client
        if client is None:
            raise NotConnected(f"{self.address}: closed")
        try:
            found = client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=self.settings.chunksize,
                WaitTimeSeconds=self.settings.waitseconds,
                VisibilityTimeout=self.settings.visibility,
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            if self._client is not client and found:  # closed meanwhile: return them to the queue
                entries: Any = [
                    {"Id": str(n), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": 0}
                    for n, one in enumerate(found)
                ]
                client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                return
        except (BotoCoreError, ClientError) as error:
            raise self._lost(error) from None
        self._buffer.extend(self._message(one) for one in found)

    def _message(self, received: Any) -> Message:
        body, envelope_id = unwrap(received["Body"], self.whole)
        self._open.add(received["ReceiptHandle"])
        milliseconds = received.get("Attributes", {}).get("SentTimestamp")
        return Message(
            body,
            self.name,
            sent_at=int(milliseconds) / 1000 if milliseconds else None,
            key=f"sqs {envelope_id or received['MessageId']}",
            settle=partial(self._settle, received["ReceiptHandle"]),
            answer=self.answer,
            returnable=True,
            until_done=self.settings.ack == "finish",
        )

    def _settle(self, receipt: Receipt, verdict: Verdict) -> None:
        if receipt not in self._open:  # DONE after TAKEN
            return
        if verdict is Verdict.TAKEN and self.settings.ack == "finish":
            self._held[receipt] = asyncio.get_running_loop().time()
            return
        self._open.discard(receipt)
        self._held.pop(receipt, None)
        if verdict is Verdict.BAD and self.settings.bad == "leave":
            return
        returned = verdict is Verdict.BUSY or (
            verdict is Verdict.ELSEWHERE and self.settings.shared
        )
        # not at once, or the same node receives it again, but soon: many nodes may have to see it
        delays = random.randint(1, 5), random.randint(1, 5)  # noqa: S311  # jitter
        seconds = min(delays) if returned else None
        self._verdicts.put_nowait((receipt, seconds))

    async def _carry_out(self) -> None:
        """Delete messages, or make them visible again after the seconds beside each."""
        while True:
            verdicts = [await self._verdicts.get()]
            while len(verdicts) < BATCH and not self._verdicts.empty():
                verdicts.append(self._verdicts.get_nowait())
            try:
                await self._call_patiently(verdicts)
            finally:
                for _ in verdicts:
                    self._verdicts.task_done()

    async def _keep_invisible(self) -> None:
        while True:
            await asyncio.sleep(self.settings.visibility / 3)
            too_old = (
                asyncio.get_running_loop().time() - LONGEST_HELD + 2 * self.settings.visibility
            )
            for receipt in [receipt for receipt, since in self._held.items() if since < too_old]:
                del self._held[receipt]
            held = list(self._held)
            for start in range(0, len(held), BATCH):
                await self._call_patiently(
                    [(receipt, self.settings.visibility) for receipt in held[start : start + BATCH]]
                )

    async def _call_patiently(self, verdicts: list[tuple[Receipt, int | None]]) -> None:
        """Retry until SQS has them, or until another node may have the messages.

        A message that is not deleted from a shared queue is processed twice.
        """
        clock, pause, left = asyncio.get_running_loop().time, 0, list(verdicts)
        until = clock() + self.settings.visibility
        while left:
            try:
                left, reason = await run_in_thread(self._call, left), "SQS failed on some messages"
            except (BotoCoreError, ClientError) as error:
                reason = reason_of(error)
            if left and clock() + pause > until:
                log.warning(
                    "messages could not be settled: they are redelivered",
                    source=self.name,
                    messages=len(left),
                    reason=reason,
                )
                return
            await asyncio.sleep(pause if left else 0)
            pause = min(pause + 1, LONGEST_PAUSE)

    def _call(self, verdicts: list[tuple[Receipt, int | None]]) -> list[tuple[Receipt, int | None]]:
        """Carry out verdicts, and return those that failed through no fault of the caller.

        SQS answers a batch with status 200 even if entries of it failed.
        """
        client = self._client
        if client is None:
            return []
        by_id = {str(next(self._numbers)): verdict for verdict in verdicts}
        deleted: Any = [
            {"Id": n, "ReceiptHandle": receipt}
            for n, (receipt, seconds) in by_id.items()
            if seconds is None
        ]
        changed: Any = [
            {"Id": n, "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for n, (receipt, seconds) in by_id.items()
            if seconds is not None
        ]
        failed: list[Any] = []
        if deleted:
            failed += client.delete_message_batch(QueueUrl=self._url, Entries=deleted).get(
                "Failed", []
            )
        if changed:
            failed += client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=changed
            ).get("Failed", [])
        again = (one["Id"] for one in failed if not one.get("SenderFault"))
        return [by_id[number] for number in again if number in by_id]

    def _check(self, place: str) -> str:
        try:
            client = self._client or make_client(self.settings)
            _url_of(client, place)  # the documented policy allows nothing more that sends nothing
        except (BotoCoreError, ClientError) as error:
            return reason_of(error)
        return ""

    def _send(self, body: bytes, to: str | None) -> None:
        try:
            client = self._client or make_client(self.settings)
            url = _url_of(client, to or self.settings.url or self._queue_name)
            order: Any = {}
            if url.endswith(".fifo"):  # each in a group of its own: none waits for another
                order = {"MessageGroupId": new_id(), "MessageDeduplicationId": new_id()}
            client.send_message(QueueUrl=url, MessageBody=body.decode("utf-8", "replace"), **order)
        except ClientError as error:
            if error.response["Error"].get("Code") in UNSENDABLE:
                raise ResultRefused(f"{self.address}: {reason_of(error)}") from None
            raise self._lost(error) from None
        except BotoCoreError as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> NotConnected:
        return NotConnected(f"{self.address}: {reason_of(error)}")


def _url_of(client: "SQSClient", name: str) -> str:
    return name if "://" in name else client.get_queue_url(QueueName=name)["QueueUrl"]
