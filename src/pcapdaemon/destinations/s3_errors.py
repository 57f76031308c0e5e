"""What S3's errors mean for a delivery: whether a retry may help, and what to do next."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.text import printable

HINTS = {
    "InvalidAccessKeyId": "see [s3] accessid and accesskey",
    "SignatureDoesNotMatch": "see [s3] accessid and accesskey",
    "AccessDenied": "see [s3] accessid and accesskey, and the IAM policy in docs/how-to/s3.md",
    "NoSuchBucket": "see [s3] bucket, region and endpoint",
    "PermanentRedirect": "the bucket is in another region: see [s3] region",
    "AuthorizationHeaderMalformed": "the bucket is in another region: see [s3] region",
    "AccessControlListNotSupported": (
        "the bucket does not accept ACLs: remove [s3] acl, and acl from the request"
    ),
    "EntityTooLarge": "see [general] maxbytes",
    "InvalidStorageClass": "see [s3] storage_class",
    "InvalidTag": "see [s3] object_tags",
    "RequestTimeTooSkewed": (
        "the clock of this host, or of the server, is wrong: check its time synchronization"
    ),
    "ExpiredToken": "the role's credentials have expired, and no new ones were found",
}
PERMANENT = frozenset(
    """
    InvalidAccessKeyId SignatureDoesNotMatch AccessDenied AllAccessDisabled AccountProblem
    NoSuchBucket PermanentRedirect AuthorizationHeaderMalformed
    AccessControlListNotSupported EntityTooLarge MethodNotAllowed InvalidStorageClass
    InvalidTag InvalidArgument InvalidBucketName MetadataTooLarge KeyTooLongError
    MalformedACLError InvalidEncryptionAlgorithmError InvalidToken
    IllegalLocationConstraintException
    """.split()
)
"""Error codes that a retry never fixes; those that begin with KMS are permanent, too.

Source: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""


def refusal(error: Exception) -> DeliveryFailed | DeliveryRefused:
    """Return the error as DeliveryFailed if a retry may help, else as DeliveryRefused.

    Its words are for a person.
    """
    if isinstance(error, ClientError):
        found = error.response["Error"]
        code, message = found.get("Code", ""), found.get("Message", "")
        hint = HINTS.get(
            code, "see [s3] kms_key_id, and the key's policy" if code.startswith("KMS.") else ""
        )
        words = printable(f"{code}: {message}")[:500] + (f" ({hint})" if hint else "")
        permanent = code in PERMANENT or code.startswith("KMS.")
        return DeliveryRefused(words) if permanent else DeliveryFailed(words)
    if isinstance(error, NoCredentialsError):
        return DeliveryFailed(
            "no credentials were found (set [s3] accessid and accesskey, or give the host a role)"
        )
    if isinstance(error, ParamValidationError):
        return DeliveryRefused(printable(str(error))[:500])
    reason = error.kwargs.get("error", error) if isinstance(error, HTTPClientError) else error
    return DeliveryFailed(printable(str(reason))[:500])


def require_encrypted(answer: Mapping[str, Any], asked: Mapping[str, Any], what: str) -> None:
    """Raise DeliveryRefused if the server ignored the encryption that was asked for.

    S3 repeats it in its answer (API reference of PutObject). Some compatible servers ignore it, and
    answer as if all were well.
    """
    wanted, got = asked.get("ServerSideEncryption"), answer.get("ServerSideEncryption")
    if wanted and got != wanted:
        raise DeliveryRefused(
            f"the server did not encrypt with {wanted}: its answer has {got or 'no encryption'};"
            f" {what}",
            "set up encryption on the server, or remove [s3] encryption and kms_key_id",
        )
