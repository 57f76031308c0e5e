"""SQS's errors in words for a person."""

from botocore.exceptions import ClientError

from pcapdaemon.core.text import printable

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
