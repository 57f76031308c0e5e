"""What is particular to S3: what is sent, and what its errors mean."""

import threading
from collections.abc import Iterator
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import httpx2
import pytest

from pcapdaemon.destinations.s3 import S3, S3Settings
from pcapdaemon.errors import DeliveryFailed, DeliveryRefused
from tests.contracts.destinations import CONTENT, facts, savefile
from tests.contracts.sources import Shared
from tests.servers import free_port

_numbers = count()


@pytest.fixture
def bucket(shared: Shared) -> str:
    return shared.moto.bucket(f"s3-{next(_numbers)}")


def made(shared: Shared, bucket: str, **more: Any) -> S3:
    return S3(S3Settings.model_validate(shared.moto.section(bucket, **more)))


def head(shared: Shared, where: str) -> dict[str, Any]:
    name, _, key = where.removeprefix("s3://").partition("/")
    found: Any = shared.moto.s3.head_object(Bucket=name, Key=key)
    return dict(found)


class Strict:
    """An S3 that answers with errors, one each, and then takes everything; it notes the headers."""

    def __init__(self, *errors: tuple[int, str]) -> None:
        self.errors, self.headers, self.port = list(errors), [], free_port()  # type: ignore[var-annotated]
        strict = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                strict.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, code = strict.errors.pop(0) if strict.errors else (200, "")
                body = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode() if code else b""
                body = b"not XML" if code == "garbage" else body
                self.send_response(status)
                self.send_header("ETag", '"etag"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base names it so
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def destination(self, **more: Any) -> S3:
        section = {"upload": True, "bucket": "b", "endpoint": f"http://127.0.0.1:{self.port}", "accessid": "a", "accesskey": "k"}
        return S3(S3Settings.model_validate({**section, **more}))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def strict() -> Iterator[Strict]:
    server = Strict()
    yield server
    server.close()


async def test_key_metadata_and_type(shared: Shared, bucket: str) -> None:
    destination = made(shared, bucket, folder="/pcaps/fra1/")
    receipt = await destination.deliver(savefile(), facts("a.pcap", "customer:Müller\n,node:a"))
    assert receipt.where == f"s3://{bucket}/pcaps/fra1/a.pcap"
    found = head(shared, receipt.where)
    assert str(make_header(decode_header(found["Metadata"]["tags"]))) == "customer:Müller ,node:a"
    assert found["ContentType"] == "application/vnd.tcpdump.pcap"
    assert found["ETag"].strip('"') == receipt.id
    without = await made(shared, bucket).deliver(savefile(), facts("b.pcapng"))
    assert without.where == f"s3://{bucket}/b.pcapng"
    assert head(shared, without.where)["ContentType"] == "application/x-pcapng"


async def test_what_a_request_chooses(shared: Shared, bucket: str) -> None:
    other = shared.moto.bucket(f"{bucket}-other")
    destination = made(shared, bucket, folder="x", allow_buckets=[other])
    receipt = await destination.deliver(savefile(), facts("a.pcap", bucket=other, folder="theirs", encryption=True))
    assert receipt.where == f"s3://{other}/theirs/a.pcap"
    assert head(shared, receipt.where)["ServerSideEncryption"] == "AES256"


async def test_what_is_not_allowed_any_more_is_not_sent_there(shared: Shared, bucket: str, strict: Strict) -> None:
    elsewhere = facts("a.pcap", endpoint=f"http://127.0.0.1:{strict.port}")
    with pytest.raises(DeliveryRefused, match="allow_endpoints"):
        await made(shared, bucket).deliver(savefile(), elsewhere)
    assert not strict.headers


async def test_large_ones_go_in_parts_and_nothing_is_left_of_those_that_fail(shared: Shared, bucket: str) -> None:
    large = CONTENT * 6
    receipt = await made(shared, bucket).deliver(savefile(large), facts("large.pcap"))
    assert receipt.id.endswith("-3")
    assert shared.moto.object(receipt.where) == large
    assert not shared.moto.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    checked = await made(shared, bucket, checksums="when_supported").deliver(savefile(large), facts("checked.pcap"))
    assert shared.moto.object(checked.where) == large


async def test_encryption_storage_class_and_tags(shared: Shared, bucket: str) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    more = {"kms_key_id": key, "storage_class": "STANDARD_IA", "object_tags": {"team": "net ops"}}
    receipt = await made(shared, bucket, **more).deliver(savefile(), facts("k.pcap"))
    found = head(shared, receipt.where)
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"], found["StorageClass"]) == ("aws:kms", key, "STANDARD_IA")
    tags = shared.moto.s3.get_object_tagging(Bucket=bucket, Key="k.pcap")["TagSet"]
    assert tags == [{"Key": "team", "Value": "net ops"}]


async def test_a_signed_link_opens_it_and_is_nowhere_else(shared: Shared, bucket: str) -> None:
    receipt = await made(shared, bucket, presign=60).deliver(savefile(), facts("p.pcap"))
    assert "X-Amz-Signature" in receipt.link
    assert "X-Amz" not in receipt.where + receipt.id
    async with httpx2.AsyncClient() as http:
        assert (await http.get(receipt.link)).content == CONTENT


async def test_no_acl_is_sent_for_private_and_no_checksum_to_other_servers(strict: Strict) -> None:
    await strict.destination().deliver(savefile(), facts())
    sent = strict.headers[-1]
    assert not [name for name in sent if name == "x-amz-acl" or "checksum" in name]
    await strict.destination(acl="bucket-owner-full-control", checksums="when_supported").deliver(savefile(), facts())
    assert strict.headers[-1]["x-amz-acl"] == "bucket-owner-full-control"
    assert "x-amz-checksum-crc32" in strict.headers[-1]


async def test_a_bucket_that_takes_no_acl_gets_it_without_unless_it_was_public(strict: Strict) -> None:
    strict.errors = [(400, "AccessControlListNotSupported")]
    receipt = await strict.destination(acl="bucket-owner-read").deliver(savefile(), facts())
    assert receipt.where == "s3://b/a-lo-1-ID.pcap"
    assert ["x-amz-acl" in one for one in strict.headers] == [True, False]
    strict.errors = [(400, "AccessControlListNotSupported")]
    with pytest.raises(DeliveryRefused, match=r"leave .* out"):
        await strict.destination(acl="public-read").deliver(savefile(), facts())


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "InvalidAccessKeyId", "accessid and accesskey"),
        (403, "SignatureDoesNotMatch", "accessid and accesskey"),
        (403, "AccessDenied", "IAM policy"),
        (404, "NoSuchBucket", "bucket, region and endpoint"),
        (301, "PermanentRedirect", "another region"),
        (400, "EntityTooLarge", "maxbytes"),
        (400, "KMS.DisabledException", "kms_key_id"),
        (400, "MetadataTooLarge", "MetadataTooLarge"),
    ],
)
async def test_what_no_waiting_mends_is_refused_with_what_to_do(strict: Strict, status: int, code: str, words: str) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryRefused, match=words):
        await strict.destination(region="us-east-1").deliver(savefile(), facts())


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "SlowDown", "SlowDown"),
        (500, "InternalError", "InternalError"),
        (403, "RequestTimeTooSkewed", "clock of this host"),
        (400, "ExpiredToken", "credentials have run out"),
        (502, "garbage", "502"),
        (400, "garbage", "400"),
    ],
)
async def test_what_may_pass_is_a_failure_for_now(strict: Strict, status: int, code: str, words: str) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryFailed, match=words):
        await strict.destination().deliver(savefile(), facts())


async def test_a_bucket_that_is_not_there_is_said_beforehand(shared: Shared) -> None:
    assert "NoSuchBucket" in await made(shared, "none-of-this-name").check()
