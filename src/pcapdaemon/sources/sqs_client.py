"""A client of SQS, and its errors in words for a person."""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pcapdaemon.core.text import printable
from pcapdaemon.sources.sqs_settings import SqsSettings

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

DENIED = frozenset(
    """
    AccessDenied AccessDeniedException AWS.SimpleQueueService.AccessDenied ExpiredToken
    SignatureDoesNotMatch InvalidClientTokenId InvalidAccessKeyId
    UnrecognizedClientException AuthFailure InvalidSecurity
    """.split()
)
"""Error codes of a client that lacks credentials or rights."""


def reason_of(error: Exception) -> str:
    """Return the error, with a hint if credentials or rights are missing."""
    if isinstance(error, ClientError):
        found, status = error.response["Error"], error.response.get("ResponseMetadata", {})
        code, words = found.get("Code", ""), found.get("Message", "")
        denied = code in DENIED or status.get("HTTPStatusCode") in (401, 403)
        hint = " (see [sqs] accessid and accesskey, and the IAM policy in docs/how-to/sqs.md)"
        return printable(f"{code}: {words}")[:500] + (hint if denied else "")
    return printable(str(error))[:500]


def make_client(settings: SqsSettings) -> "SQSClient":
    """Return a client. Each reads the credentials of AWS's default chain again."""
    url = settings.url
    amazons = re.match(
        r"https?://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|queue)\.amazonaws\.com", url or ""
    )
    region = settings.region or (amazons and (amazons[1] or amazons[2])) or None
    endpoint = settings.endpoint or (
        None if url is None or amazons else f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    )
    session = boto3.session.Session()
    client: SQSClient = session.client(
        "sqs",
        region_name=region or session.region_name or ("us-east-1" if endpoint else None),
        endpoint_url=endpoint,
        aws_access_key_id=settings.accessid,
        aws_secret_access_key=(
            settings.accesskey.get_secret_value() if settings.accesskey else None
        ),
        config=Config(
            connect_timeout=3,
            read_timeout=settings.waitseconds + 5,
            retries={"total_max_attempts": 1},  # the pump reconnects, and reports each loss
        ),
    )
    return client
