"""What SQS's errors mean, in words for a person."""

from botocore.exceptions import ClientError

from pcapdaemon.core.text import printable

DENIED = frozenset(
    """
    AccessDenied AccessDeniedException AWS.SimpleQueueService.AccessDenied ExpiredToken
    SignatureDoesNotMatch InvalidClientTokenId InvalidAccessKeyId
    UnrecognizedClientException AuthFailure InvalidSecurity
    """.split()
)
"""Error codes of a client that may not do what it does."""


def reason_of(error: Exception) -> str:
    """The error, with a hint where one is known."""
    if isinstance(error, ClientError):
        found, status = error.response["Error"], error.response.get("ResponseMetadata", {})
        code, words = found.get("Code", ""), found.get("Message", "")
        denied = code in DENIED or status.get("HTTPStatusCode") in (401, 403)
        hint = " (see [sqs] accessid and accesskey, and the IAM policy in docs/how-to/sqs.md)"
        return printable(f"{code}: {words}")[:500] + (hint if denied else "")
    return printable(str(error))[:500]
