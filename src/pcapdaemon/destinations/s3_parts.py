"""Uploads to S3 in parts, and tags that fit into a header."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from email.header import Header
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pcapdaemon.core.errors import DeliveryFailed
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import run_in_thread

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART, PARTS_AT_ONCE = 8 << 20, 3
"""Bytes of a part, and how many parts of one savefile are sent at the same time."""

MOST_METADATA, MOST_METADATA_ENCODED = 2000, 1100
"""Most bytes of tags: if they are ASCII, and if they must be encoded.

S3 accepts 2 KB, including names and as encoded
(docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
"""

log = structlog.get_logger()


def metadata(tags: str) -> str:
    """Return tags as a header can carry them.

    Control characters become spaces, text that is not ASCII is encoded (RFC 2047), and tags that do
    not fit into 2 KB are dropped.
    """
    plain = "".join(c if c.isprintable() else " " for c in tags)
    kept: list[str] = []
    left = MOST_METADATA if plain.isascii() else MOST_METADATA_ENCODED
    for tag in plain.split(","):
        size = len(tag.encode()) + bool(kept)
        if size <= left:
            kept.append(tag)
            left -= size
    text = ",".join(kept)
    return text if text.isascii() else Header(text, "utf-8").encode(linesep="").replace("\n", "")


async def send_parts(
    client: "S3Client", savefile: Savefile, upload: dict[str, Any]
) -> list[dict[str, Any]]:
    """Send all parts, in a few threads.

    When it returns or raises, no part is being sent any more.
    """
    size = max(PART, -(-savefile.size // 9000))  # S3 accepts 10,000 parts
    numbers = iter(range(1, -(-savefile.size // size) + 1))
    failed = threading.Event()
    work = (
        run_in_thread(_send_parts, client, savefile, upload, numbers, size, failed)
        for _ in range(PARTS_AT_ONCE)
    )
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    parts = [part for outcome in outcomes if isinstance(outcome, list) for part in outcome]
    return sorted(parts, key=lambda part: int(part["PartNumber"]))


def _send_parts(
    client: "S3Client",
    savefile: Savefile,
    upload: Any,
    numbers: Iterator[int],
    size: int,
    failed: threading.Event,
) -> list[dict[str, Any]]:
    """Send the next part, until none is left or one has failed.

    The threads are few, because the memory of a new thread is cold.
    """
    sent = []
    try:
        for number in numbers:
            if failed.is_set():
                break
            with savefile.part((number - 1) * size, size) as body:
                content: Any = body
                answer = client.upload_part(**upload, PartNumber=number, Body=content)
            checksum = {name: answer[name] for name in ("ChecksumCRC32",) if name in answer}
            sent.append({"PartNumber": number, "ETag": etag_of(answer), **checksum})
    except BaseException:
        failed.set()
        raise
    return sent


def etag_of(answer: Any) -> str:
    """Return the ETag of an answer. Raises DeliveryFailed if it has none, so is not S3's."""
    if not (etag := answer.get("ETag")):
        raise DeliveryFailed("the answer has no ETag: is this an S3 server?")
    return str(etag)


MOST_LEFT = 100
"""Most uploads in parts that are remembered because they could not be aborted."""


class Uploads:
    """Aborts uploads in parts, those of a server that is down when it is back. Methods block."""

    def __init__(self) -> None:
        self._left: deque[tuple[S3Client, Any]] = deque(maxlen=MOST_LEFT)

    def abort(self, client: "S3Client", upload: Any) -> None:
        """Abort an upload, or remember it for `try_again`; an error is only logged."""
        try:
            client.abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError) as error:
            status = getattr(error, "response", {}).get("ResponseMetadata", {})
            if status.get("HTTPStatusCode", 500) < 500:
                what = "parts of an upload are left behind: a lifecycle rule removes them"
            else:
                what = "parts of an upload are left behind until the server answers again"
                self._left.append((client, upload))
            where = f"s3://{upload['Bucket']}/{upload['Key']}"
            log.warning(what, upload=where, reason=str(error)[:200])

    def try_again(self, client: "S3Client") -> None:
        """Abort one of those that this client could not abort. It just stored something."""
        left = next((one for one in list(self._left) if one[0] is client), None)
        if left:
            with suppress(ValueError):  # another thread took it
                self._left.remove(left)
                self.abort(*left)
