"""Savefiles in S3, Amazon's or a compatible server's.

docs/adr/0007 says what differs from boto3's own `upload_fileobj`, and why: parts are read from the
savefile's own memory, and a thread that hangs never keeps the process from ending.
"""

import asyncio
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.destinations.s3_client import make_client
from pcapdaemon.destinations.s3_errors import refusal, require_encrypted
from pcapdaemon.destinations.s3_names import REGION, endpoint_url, folder_problem, region_in
from pcapdaemon.destinations.s3_parts import Uploads, etag_of, metadata, send_parts
from pcapdaemon.destinations.s3_settings import PUBLIC_ACLS, S3Settings
from pcapdaemon.savefile.savefile import Savefile, content_type
from pcapdaemon.threads import look_at, run_in_thread

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MULTIPART_ABOVE = 16 << 20
"""Bytes; larger savefiles are uploaded in parts."""

ABORT_WITHIN = 10.0
"""Seconds that aborting an upload may take."""

MOST_CLIENTS = 8
"""Most clients that are kept; a request may name any region."""

log = structlog.get_logger()


class S3(Destination):
    """Uploads savefiles from memory, large ones in parts.

    The same savefile uploaded twice is one object.
    """

    name = "s3"
    Settings = S3Settings
    HEEDED = ("folder", "bucket", "acl", "region", "endpoint", "encryption")

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._clients: OrderedDict[tuple[str | None, str | None], S3Client] = OrderedDict()
        self._making, self._uploads = threading.Lock(), Uploads()

    @property
    def address(self) -> str:
        """The bucket and folder."""
        return f"s3://{self._settings.bucket}/{self._settings.folder}"

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """Return what the request may not choose."""
        settings, problems = self._settings, []
        if request.folder and (words := folder_problem(request.folder)):
            problems.append(Problem("folder", words))
        if request.region and not (REGION.fullmatch(request.region) and len(request.region) <= 40):
            problems.append(
                Problem("region", f"must be the name of a region, not {request.region!r}")
            )
        allowed: dict[str, tuple[str | None, set[str]]] = {
            "bucket": (request.bucket, {str(settings.bucket), *settings.allow_buckets}),
            "acl": (request.acl, {settings.acl, "private", *settings.allow_acls}),
            "endpoint": (
                request.endpoint,
                {settings.endpoint or "s3.amazonaws.com", *settings.allow_endpoints},
            ),
        }
        for field, (value, values) in allowed.items():
            if (
                value
                and value not in values
                and not (field == "endpoint" and self._same_endpoint(value, values))
            ):
                problems.append(
                    Problem(
                        field,
                        f"{value!r} is not allowed by this node's configuration ([s3]"
                        f" allow_{field}s)",
                    )
                )
        return problems

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Upload a savefile.

        If it is cancelled, the upload is aborted in the background.
        """
        # allowed when the request was accepted, but not any more
        if problems := self.objections(info.request):
            raise DeliveryRefused("; ".join(map(str, problems)))
        uploading = asyncio.create_task(self._upload(savefile, info))
        try:
            return await asyncio.shield(uploading)
        except asyncio.CancelledError:
            savefile.close()
            uploading.add_done_callback(look_at)
            raise
        except (BotoCoreError, ClientError, ValueError, OSError) as error:
            raise refusal(error) from None

    async def fetch(self, where: str) -> Savefile | None:
        """Open an object in one of its buckets, in the default region. Needs s3:GetObject."""
        bucket, _, key = where.removeprefix("s3://").partition("/")
        if bucket not in {self._settings.bucket, *self._settings.allow_buckets}:
            return None
        target: Any = {"Bucket": bucket, "Key": key}
        try:
            client = await run_in_thread(self._client, None, None)
            found = await run_in_thread(client.head_object, **target)
        except (BotoCoreError, ClientError, ValueError, OSError) as error:
            log.warning("a savefile can't be read", where=where, reason=str(refusal(error)))
            return None

        def part(start: int, size: int) -> bytes:
            span = f"bytes={start}-{start + size - 1}"
            return client.get_object(**target, Range=span)["Body"].read()

        return Savefile.elsewhere(found["ContentLength"], part)

    async def check(self) -> str:
        """Begin an upload and abort it.

        That needs the same rights as a delivery, and leaves nothing behind.
        """
        try:
            client = await run_in_thread(self._client, None, None)
            options = self._options("", None)
            target: Any = {
                "Bucket": self._settings.bucket,
                "Key": self._key("", ".pcapdaemon-check"),
            }
            begun = await run_in_thread(client.create_multipart_upload, **target, **options)
            if "UploadId" not in begun:
                return f"{self.address}: the server does not answer like S3"
            await run_in_thread(client.abort_multipart_upload, **target, UploadId=begun["UploadId"])
        except (BotoCoreError, ClientError, ValueError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else ""
            if code == "AccessControlListNotSupported" and self._settings.acl not in PUBLIC_ACLS:
                return ""  # savefiles are uploaded without one
            return f"{self.address}: {refusal(error)}"
        return ""

    async def _upload(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        request, settings = info.request, self._settings
        client = await run_in_thread(self._client, request.region, request.endpoint)
        target = {
            "Bucket": request.bucket or settings.bucket,
            "Key": self._key(request.folder, info.file_name),
        }
        options = self._options(request.acl or "", request.encryption)
        options["ContentType"] = content_type(info.file_name)
        options["Metadata"] = {"tags": metadata(info.tags)}
        try:
            etag = await self._put(client, savefile, target, options)
        except ClientError as error:
            acl = options.pop("ACL", "private")
            if (
                error.response["Error"].get("Code") != "AccessControlListNotSupported"
                or acl in PUBLIC_ACLS
            ):
                raise
            log.warning(
                "the bucket takes no ACL: uploaded without",
                id=info.id,
                bucket=target["Bucket"],
                acl=acl,
            )
            etag = await self._put(client, savefile, target, options)
        await run_in_thread(self._uploads.try_again, client)
        link = (
            client.generate_presigned_url("get_object", Params=target, ExpiresIn=settings.presign)
            if settings.presign
            else ""
        )
        return Receipt(f"s3://{target['Bucket']}/{target['Key']}", etag.strip('"'), link)

    async def _put(self, client: "S3Client", savefile: Savefile, target: Any, options: Any) -> str:
        if savefile.size <= MULTIPART_ABOVE:
            with savefile.part(0, savefile.size) as body:
                content: Any = body
                put = await run_in_thread(client.put_object, **target, **options, Body=content)
                require_encrypted(put, options, "the object is stored, but not encrypted")
                return etag_of(put)
        # checksums of parts must be announced first (API reference of CreateMultipartUpload)
        checksums = (
            getattr(client.meta.config, "request_checksum_calculation", "") == "when_supported"
        )
        extra: Any = {"ChecksumAlgorithm": "CRC32"} if checksums else {}
        begun = await run_in_thread(client.create_multipart_upload, **target, **options, **extra)
        if "UploadId" not in begun:
            raise DeliveryFailed("the answer has no upload ID: is this an S3 server?")
        upload = {**target, "UploadId": begun["UploadId"]}
        try:
            require_encrypted(begun, options, "nothing was uploaded")
            parts: Any = {"Parts": await send_parts(client, savefile, {**upload, **extra})}
            return etag_of(
                await run_in_thread(
                    client.complete_multipart_upload, **upload, MultipartUpload=parts
                )
            )
        except BaseException:  # parts left behind are billed
            with suppress(TimeoutError):
                async with asyncio.timeout(ABORT_WITHIN):
                    await run_in_thread(self._uploads.abort, client, upload)
            raise

    def _key(self, folder: str | None, name: str) -> str:
        prefix = (folder or "").strip("/") or self._settings.folder
        return f"{prefix}/{name}" if prefix else name

    def _options(self, acl: str, encryption: bool | None) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {}
        if (acl or settings.acl) != "private":
            options["ACL"] = acl or settings.acl
        if settings.kms_key_id:
            options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.kms_key_id}
        elif encryption or settings.encryption:
            options["ServerSideEncryption"] = "AES256"
        if settings.storage_class:
            options["StorageClass"] = settings.storage_class
        if settings.object_tags:
            options["Tagging"] = urlencode(settings.object_tags)
        return options

    def _same_endpoint(self, value: str, values: set[str]) -> bool:
        try:
            return endpoint_url(value) in {endpoint_url(one) for one in values}
        except ValueError:
            return False

    def _client(self, region: str | None, endpoint: str | None) -> "S3Client":
        """Return the client for a region and an endpoint; it is created once.

        Creating one takes 0.1 s and is not thread-safe.
        """
        settings = self._settings
        name = endpoint or settings.endpoint or "s3.amazonaws.com"
        key = (region or settings.region or region_in(name), endpoint_url(name))
        with self._making:
            if key not in self._clients:
                self._clients[key] = make_client(self._settings, *key)
            self._clients.move_to_end(key)
            while len(self._clients) > MOST_CLIENTS:
                self._clients.popitem(last=False)
            return self._clients[key]
