"""An S3 client as the section says."""

from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config

from pcapdaemon.destinations.s3_settings import S3Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def make_client(settings: S3Settings, region: str | None, url: str | None) -> "S3Client":
    """Return a client for a region and an endpoint. It reads AWS's default chain of credentials."""
    session = boto3.session.Session()
    auto: Literal["when_required", "when_supported"] = "when_required" if url else "when_supported"
    checksums = auto if settings.checksums == "auto" else settings.checksums
    # the client's own `auto` puts the global host into signed links; no certificate matches a
    # bucket with dots
    dots = any("." in bucket for bucket in (str(settings.bucket), *settings.allow_buckets))
    style = (
        "virtual"
        if settings.addressing_style == "auto" and not url and not dots
        else settings.addressing_style
    )
    client: S3Client = session.client(
        "s3",
        region_name=region or session.region_name or "us-east-1",
        endpoint_url=url,
        aws_access_key_id=settings.accessid,
        aws_secret_access_key=(
            settings.accesskey.get_secret_value() if settings.accesskey else None
        ),
        config=Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            retries={"total_max_attempts": 1},  # the delivery retries, and reports that
            s3={"addressing_style": style},
            request_checksum_calculation=checksums,
            response_checksum_validation="when_required",
        ),
    )
    return client
