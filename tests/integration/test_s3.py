"""What is specific to S3: what is sent, and what its errors mean."""

import asyncio
import base64
import io
import re
import ssl
import threading
import zlib
from collections.abc import Iterator
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx2
import pytest
from botocore.exceptions import ConnectionClosedError

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.destinations.s3 import S3
from pcapdaemon.destinations.s3_settings import S3Settings
from tests.contracts.destinations import CONTENT, facts, savefile
from tests.contracts.sources import Shared
from tests.helpers import certificates
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
    """An S3 that answers with each of its errors once, then accepts everything; keeps headers."""

    def __init__(self, *errors: tuple[int, str]) -> None:
        self.errors, self.headers, self.port = list(errors), [], free_port()  # type: ignore[var-annotated]
        self.encrypts = True
        strict = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                strict.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, code = strict.errors.pop(0) if strict.errors else (200, "")
                body = (
                    f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()
                    if code
                    else b""
                )
                body = b"not XML" if code == "garbage" else body
                self.send_response(status)
                self.send_header("ETag", '"etag"')
                encryption = self.headers.get("x-amz-server-side-encryption")
                if encryption and strict.encrypts:
                    self.send_header("x-amz-server-side-encryption", encryption)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            # the base names it so
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def destination(self, **more: Any) -> S3:
        section = {
            "upload": True,
            "bucket": "b",
            "endpoint": f"http://127.0.0.1:{self.port}",
            "accessid": "a",
            "accesskey": "k",
        }
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
    receipt = await destination.deliver(
        savefile(), facts("a.pcap", bucket=other, folder="theirs", encryption=True)
    )
    assert receipt.where == f"s3://{other}/theirs/a.pcap"
    assert head(shared, receipt.where)["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize("asked", [{"encryption": True}, {"kms_key_id": "k"}])
async def test_a_server_that_ignores_encryption_is_found_out(
    strict: Strict, asked: dict[str, Any]
) -> None:
    strict.encrypts = False
    with pytest.raises(DeliveryRefused, match="did not encrypt with"):
        await strict.destination(**asked).deliver(savefile(), facts("a.pcap"))
    strict.encrypts = True
    assert (await strict.destination(**asked).deliver(savefile(), facts("a.pcap"))).id == "etag"


async def test_what_is_not_allowed_any_more_is_not_sent_there(
    shared: Shared, bucket: str, strict: Strict
) -> None:
    elsewhere = facts("a.pcap", endpoint=f"http://127.0.0.1:{strict.port}")
    with pytest.raises(DeliveryRefused, match="allow_endpoints"):
        await made(shared, bucket).deliver(savefile(), elsewhere)
    assert not strict.headers


async def test_large_ones_go_in_parts_and_nothing_is_left_of_those_that_fail(
    shared: Shared, bucket: str
) -> None:
    large = CONTENT * 6
    receipt = await made(shared, bucket).deliver(savefile(large), facts("large.pcap"))
    assert receipt.id.endswith("-3")
    assert shared.moto.object(receipt.where) == large
    assert not shared.moto.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    checked = await made(shared, bucket, checksums="when_supported").deliver(
        savefile(large), facts("checked.pcap")
    )
    assert shared.moto.object(checked.where) == large


async def test_encryption_storage_class_and_tags(shared: Shared, bucket: str) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    more = {"kms_key_id": key, "storage_class": "STANDARD_IA", "object_tags": {"team": "net ops"}}
    receipt = await made(shared, bucket, **more).deliver(savefile(), facts("k.pcap"))
    found = head(shared, receipt.where)
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"], found["StorageClass"]) == (
        "aws:kms",
        key,
        "STANDARD_IA",
    )
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
    await strict.destination(acl="bucket-owner-full-control", checksums="when_supported").deliver(
        savefile(), facts()
    )
    assert strict.headers[-1]["x-amz-acl"] == "bucket-owner-full-control"
    assert "x-amz-checksum-crc32" in strict.headers[-1]


async def test_a_bucket_that_takes_no_acl_gets_it_without_unless_it_was_public(
    strict: Strict,
) -> None:
    strict.errors = [(400, "AccessControlListNotSupported")]
    receipt = await strict.destination(acl="bucket-owner-read").deliver(savefile(), facts())
    assert receipt.where == "s3://b/a-lo-1-ID.pcap"
    assert ["x-amz-acl" in one for one in strict.headers] == [True, False]
    strict.errors = [(400, "AccessControlListNotSupported")]
    with pytest.raises(DeliveryRefused, match=r"remove \[s3\] acl"):
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
async def test_what_no_waiting_mends_is_refused_with_what_to_do(
    strict: Strict, status: int, code: str, words: str
) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryRefused, match=words):
        await strict.destination(region="us-east-1").deliver(savefile(), facts())


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "SlowDown", "SlowDown"),
        (500, "InternalError", "InternalError"),
        (403, "RequestTimeTooSkewed", "clock of this host"),
        (400, "ExpiredToken", "credentials have expired"),
        (502, "garbage", "502"),
        (400, "garbage", "400"),
    ],
)
async def test_what_may_pass_is_a_failure_for_now(
    strict: Strict, status: int, code: str, words: str
) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryFailed, match=words):
        await strict.destination().deliver(savefile(), facts())


async def test_a_bucket_that_is_not_there_is_said_beforehand(shared: Shared) -> None:
    assert "NoSuchBucket" in await made(shared, "none-of-this-name").check()


LARGE = CONTENT * 7
ERROR = "<Error><Code>{}</Code><Message>because</Message></Error>"


class InParts(ThreadingHTTPServer):
    """An S3 for one upload in parts that requires checksums, as Amazon's does.

    `answers` replace its own answers, by kind.
    """

    daemon_threads = True

    def __init__(self, tls: Path | None = None) -> None:
        super().__init__(("127.0.0.1", free_port()), _InPartsHandler)
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.parts: dict[int, bytes] = {}
        self.answers: dict[str, tuple[int, str]] = {}
        self.takes_acls, self.url = (
            True,
            f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}",
        )
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "server.pem", tls / "server.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def destination(self, **more: Any) -> S3:
        section = {
            "upload": True,
            "bucket": "b",
            "endpoint": self.url,
            "accessid": "a",
            "accesskey": "k",
        }
        return S3(S3Settings.model_validate({**section, **more}))

    def obey(self, kind: str, path: str, headers: dict[str, str], body: bytes) -> str:
        """Return the answer to a request: the text of an error or of a success."""
        if "x-amz-acl" in headers and not self.takes_acls:
            return ERROR.format("AccessControlListNotSupported")
        if kind == "part":
            content, checksum = _content(headers, body)
            if checksum != ("CRC32" if "x-amz-checksum-algorithm" in self.headers[0] else ""):
                return ERROR.format("InvalidRequest")
            self.parts[int(re.findall(r"partNumber=(\d+)", path)[0])] = content
        if kind == "complete" and "x-amz-checksum-algorithm" in self.headers[0]:
            numbers = re.findall(rb"<PartNumber>(\d+)", body)
            if len(re.findall(rb"<ChecksumCRC32>", body)) != len(numbers):
                return ERROR.format("InvalidRequest")
        return {
            "begin": (
                "<InitiateMultipartUploadResult><UploadId>ours</UploadId></InitiateMultipartUploadResult>"
            ),
            "complete": (
                "<CompleteMultipartUploadResult><ETag>&quot;etag-3&quot;</ETag></CompleteMultipartUploadResult>"
            ),
        }.get(kind, "")


class _InPartsHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        server = cast("InParts", self.server)
        headers = {name.lower(): value for name, value in self.headers.items()}
        chunked = "transfer-encoding" in headers
        body = (
            _chunks(cast("BinaryIO", self.rfile))
            if chunked
            else self.rfile.read(int(headers.get("content-length", 0)))
        )
        if chunked:
            self.rfile.readline()
        kind = {"PUT": "part", "DELETE": "abort"}.get(
            self.command, "begin" if "?uploads" in self.path else "complete"
        )
        if kind == "part" and "partNumber" not in self.path:
            kind = "put"
        server.asked.append(kind)
        server.headers.append(headers)
        text = server.obey(kind, self.path, headers, body)
        status, text = server.answers.get(kind) or (
            400 if "<Error>" in text else 204 if kind == "abort" else 200,
            text,
        )
        self.send_response(status)
        if kind == "part":
            self.send_header("ETag", '"etag"')
            if "x-amz-checksum-algorithm" in server.headers[0]:
                self.send_header("x-amz-checksum-crc32", "AAAAAA==")
        if status != 204:
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode() if status != 204 else b"")

    do_PUT = do_POST = do_DELETE = answer  # noqa: N815  # the base names them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base names it so
        pass


def _chunks(file: BinaryIO) -> bytes:
    """Return the content of a chunked body, without its trailer."""
    found = b""
    while size := int(file.readline(), 16):
        found += file.read(size)
        file.readline()
    return found


def _content(headers: dict[str, str], body: bytes) -> tuple[bytes, str]:
    """Return the bytes of a part, and the kind of checksum that was sent with it.

    The checksum is in a header, or over TLS in a trailer.
    """
    sent = headers.get("x-amz-checksum-crc32", "")
    if "aws-chunked" in headers.get("content-encoding", ""):
        file = io.BytesIO(body)
        body = _chunks(file)
        assert len(body) == int(headers["x-amz-decoded-content-length"])
        sent = file.readline().decode().strip().partition("x-amz-checksum-crc32:")[2]
    right = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    return body, "" if not sent else "CRC32" if sent == right else "wrong"


@pytest.fixture
def in_parts() -> Iterator[InParts]:
    server = InParts()
    yield server
    server.shutdown()
    server.server_close()


async def test_parts_of_a_large_one_carry_checksums_where_that_is_asked_for(
    in_parts: InParts,
) -> None:
    receipt = await in_parts.destination(checksums="when_supported").deliver(
        savefile(LARGE), facts()
    )
    assert receipt.id == "etag-3"
    assert b"".join(in_parts.parts[number] for number in sorted(in_parts.parts)) == LARGE
    assert in_parts.headers[0]["x-amz-checksum-algorithm"] == "CRC32"


async def test_parts_of_a_large_one_carry_no_checksums_to_other_servers(in_parts: InParts) -> None:
    await in_parts.destination().deliver(savefile(LARGE), facts())
    assert b"".join(in_parts.parts[number] for number in sorted(in_parts.parts)) == LARGE
    assert not [
        name
        for headers in in_parts.headers
        for name in headers
        if "checksum" in name or "trailer" in name
    ]


async def test_checksums_over_tls_as_amazon_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates(tmp_path)
    server = InParts(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    receipt = await server.destination(checksums="when_supported").deliver(savefile(LARGE), facts())
    assert receipt.id == "etag-3"
    assert b"".join(server.parts[number] for number in sorted(server.parts)) == LARGE
    assert all(
        "x-amz-trailer" in headers
        for kind, headers in zip(server.asked, server.headers, strict=True)
        if kind == "part"
    )
    server.shutdown()
    server.server_close()


async def test_a_certificate_that_nobody_knows_is_a_failure_for_now(tmp_path: Path) -> None:
    certificates(tmp_path)
    server = InParts(tmp_path)
    with pytest.raises(DeliveryFailed, match="certificate"):
        await server.destination().deliver(savefile(), facts())
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "status", "answer", "error"),
    [
        ("part", 503, ERROR.format("SlowDown"), DeliveryFailed),
        ("part", 403, ERROR.format("AccessDenied"), DeliveryRefused),
        ("part", 400, "no XML", DeliveryFailed),
        ("complete", 500, ERROR.format("InternalError"), DeliveryFailed),
        ("complete", 200, ERROR.format("InternalError"), DeliveryFailed),
        ("complete", 200, "", DeliveryFailed),
        ("complete", 400, ERROR.format("EntityTooLarge"), DeliveryRefused),
    ],
)
async def test_parts_that_were_sent_in_vain_are_given_up(
    in_parts: InParts, kind: str, status: int, answer: str, error: type[Exception]
) -> None:
    in_parts.answers[kind] = (status, answer)
    with pytest.raises(error):
        await in_parts.destination().deliver(savefile(LARGE), facts())
    assert in_parts.asked[0] == "begin"
    assert in_parts.asked[-1] == "abort"
    assert in_parts.asked.count("abort") == 1


async def test_a_part_that_does_not_arrive_leaves_no_upload_behind(
    shared: Shared, bucket: str
) -> None:
    def fail(request: Any, **_: object) -> None:
        if "partNumber=2" in request.url:
            raise ConnectionClosedError(endpoint_url="", error="cut off")

    destination = made(shared, bucket)
    destination._client(None, None).meta.events.register("before-send.s3.UploadPart", fail)
    with pytest.raises(DeliveryFailed):
        await destination.deliver(savefile(LARGE), facts())
    assert not shared.moto.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert not shared.moto.s3.list_objects_v2(Bucket=bucket).get("Contents")


async def test_that_parts_could_not_be_given_up_hides_no_error(in_parts: InParts) -> None:
    in_parts.answers = {
        "part": (503, ERROR.format("SlowDown")),
        "abort": (500, ERROR.format("InternalError")),
    }
    destination = in_parts.destination()
    with pytest.raises(DeliveryFailed, match="SlowDown"):
        await destination.deliver(savefile(LARGE), facts())
    assert in_parts.asked.count("abort") == 1
    in_parts.answers = {}
    await destination.deliver(savefile(LARGE), facts())
    assert in_parts.asked.count("abort") == 2, "the server is back"
    await destination.deliver(savefile(LARGE), facts())
    assert in_parts.asked.count("abort") == 2


@pytest.mark.parametrize("size", [CONTENT, LARGE])
async def test_a_success_that_is_none_of_s3s_is_a_failure_for_now(
    in_parts: InParts, size: bytes
) -> None:
    page = (200, "<html>Welcome to the hotel's network</html>")
    in_parts.answers = {"put": page, "begin": page}
    with pytest.raises(DeliveryFailed):
        await in_parts.destination().deliver(savefile(size), facts())
    assert await in_parts.destination().check()


async def test_large_ones_too_go_without_an_acl_where_the_bucket_takes_none(
    in_parts: InParts,
) -> None:
    in_parts.takes_acls = False
    destination = in_parts.destination(acl="bucket-owner-read", allow_acls=["public-read"])
    assert (await destination.deliver(savefile(LARGE), facts())).id == "etag-3"
    with pytest.raises(DeliveryRefused, match="acl from the request"):
        await destination.deliver(savefile(LARGE), facts(acl="public-read"))
    assert await destination.check() == ""
    assert "acl" in await in_parts.destination(acl="public-read").check()


async def test_words_of_a_server_are_short_and_act_on_no_terminal(in_parts: InParts) -> None:
    in_parts.answers["put"] = (
        503,
        ERROR.format("SlowDown").replace("because", "\u202e" + "x" * 10_000),
    )
    with pytest.raises(DeliveryFailed) as failure:
        await in_parts.destination().deliver(savefile(), facts())
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 1024


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "AuthorizationHeaderMalformed", "region"),
        (400, "InvalidStorageClass", "storage_class"),
        (400, "InvalidTag", "object_tags"),
        (403, "KMS.NotFoundException", "kms_key_id"),
        (403, "AllAccessDisabled", "AllAccessDisabled"),
        (403, "AccountProblem", "AccountProblem"),
        (405, "MethodNotAllowed", "MethodNotAllowed"),
        (400, "InvalidArgument", "InvalidArgument"),
        (400, "InvalidBucketName", "InvalidBucketName"),
        (400, "KeyTooLongError", "KeyTooLongError"),
        (400, "MalformedACLError", "MalformedACLError"),
        (400, "InvalidEncryptionAlgorithmError", "InvalidEncryptionAlgorithmError"),
        (400, "InvalidToken", "InvalidToken"),
        (400, "IllegalLocationConstraintException", "IllegalLocationConstraintException"),
    ],
)
async def test_the_rarer_errors_that_no_waiting_mends_are_refused(
    strict: Strict, status: int, code: str, words: str
) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryRefused, match=words):
        await strict.destination(region="us-east-1").deliver(savefile(), facts())


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "ServiceUnavailable"),
        (400, "RequestTimeout"),
        (409, "OperationAborted"),
        (507, "XMinioStorageFull"),
    ],
)
async def test_the_rarer_errors_that_may_pass_are_failures_for_now(
    strict: Strict, status: int, code: str
) -> None:
    strict.errors = [(status, code)]
    with pytest.raises(DeliveryFailed, match=code):
        await strict.destination().deliver(savefile(), facts())


@pytest.mark.parametrize(
    ("configured", "requested", "sent"),
    [
        ({}, {}, None),
        ({}, {"encryption": True}, "AES256"),
        ({"encryption": True}, {}, "AES256"),
        ({"encryption": True}, {"encryption": False}, "AES256"),
        ({"kms_key_id": "k"}, {}, "aws:kms"),
        ({"kms_key_id": "k"}, {"encryption": True}, "aws:kms"),
    ],
)
async def test_a_request_may_switch_encryption_on_and_never_off(
    strict: Strict, configured: dict[str, Any], requested: dict[str, Any], sent: str | None
) -> None:
    await strict.destination(**configured).deliver(savefile(), facts(**requested))
    assert strict.headers[-1].get("x-amz-server-side-encryption") == sent
    assert strict.headers[-1].get("x-amz-server-side-encryption-aws-kms-key-id") == configured.get(
        "kms_key_id"
    )


@pytest.mark.parametrize(
    ("configured", "requested", "sent"),
    [
        ("private", None, None),
        ("private", "bucket-owner-read", "bucket-owner-read"),
        ("public-read", None, "public-read"),
        ("bucket-owner-read", "private", None),
    ],
)
async def test_a_request_may_choose_the_acl(
    strict: Strict, configured: str, requested: str | None, sent: str | None
) -> None:
    destination = strict.destination(acl=configured, allow_acls=["private", "bucket-owner-read"])
    await destination.deliver(savefile(), facts(acl=requested))
    assert strict.headers[-1].get("x-amz-acl") == sent


async def test_a_request_may_choose_region_and_endpoint(strict: Strict) -> None:
    elsewhere = "http://127.0.0.1:1"
    destination = strict.destination(
        region="eu-west-1", endpoint=elsewhere, allow_endpoints=[f"http://127.0.0.1:{strict.port}"]
    )
    await destination.deliver(
        savefile(), facts(region="ap-south-1", endpoint=f"http://127.0.0.1:{strict.port}")
    )
    assert "/ap-south-1/s3/aws4_request" in strict.headers[-1]["authorization"]
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1:1\b"):
        await destination.deliver(savefile(), facts())


async def test_no_credentials_are_a_failure_for_now_that_says_so(
    strict: Strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with pytest.raises(DeliveryFailed, match="no credentials were found"):
        await strict.destination(accessid=None, accesskey=None).deliver(savefile(), facts())
    assert strict.headers == []


async def test_a_savefile_is_read_again_in_parts(shared: Shared, bucket: str) -> None:
    s3 = made(shared, bucket)
    receipt = await s3.deliver(savefile(), facts("x.pcap"))
    found = await s3.fetch(receipt.where)
    assert found is not None
    with found:
        assert found.size == len(CONTENT)
        assert await asyncio.to_thread(found.read) == CONTENT
        part = await asyncio.to_thread(lambda: b"".join(found.views(5, 7)))
        assert part == CONTENT[5:12]
    for elsewhere in (receipt.where + "x", "s3://another-bucket/x.pcap", "/x.pcap"):
        assert await s3.fetch(elsewhere) is None
