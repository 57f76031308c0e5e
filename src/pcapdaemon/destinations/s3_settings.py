"""The section `[s3]`."""

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from pcapdaemon.core.network import unencrypted
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Time
from pcapdaemon.destinations.s3_names import REGION, endpoint_url, folder_problem
from pcapdaemon.secrets import aws_files

ACLS = ("private", "bucket-owner-full-control", "bucket-owner-read", "aws-exec-read")
PUBLIC_ACLS = ("public-read", "public-read-write", "authenticated-read")
Acl = Literal[
    "private",
    "bucket-owner-full-control",
    "bucket-owner-read",
    "aws-exec-read",
    "public-read",
    "public-read-write",
    "authenticated-read",
]

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]


class S3Settings(Section):
    """`[s3]`: one bucket, and what a request may choose in its place."""

    upload: bool = Field(False, description="Upload savefiles to S3.")
    bucket: Name | None = Field(None, description="The bucket. Required.")
    folder: str = Field(
        "",
        validation_alias=AliasChoices("folder", "pcaps"),
        description="The folder of the objects; empty: none. The original's key `pcaps` works too.",
    )
    region: Name | None = Field(
        None,
        pattern=rf"^{REGION.pattern}$",
        max_length=40,
        description="Absent: the region in `endpoint` or the AWS configuration, else us-east-1.",
    )
    endpoint: Name | None = Field(
        None,
        description="Host name or URL of a server that is not Amazon's; https without a scheme.",
    )
    accessid: Name | None = Field(
        None, description="Access key ID; absent: AWS's default chain (role, environment, files)."
    )
    accesskey: SecretStr | None = Field(None, description="Secret access key.")
    acl: Acl = Field(
        "private",
        description="A canned ACL. None is sent for `private`, which is S3's default.",
    )
    encryption: bool = Field(
        False, description="Ask for encryption at rest: AES256, or aws:kms with `kms_key_id`."
    )
    kms_key_id: Name | None = Field(
        None, description="The KMS key's ID, ARN or alias; turns `encryption` on."
    )
    storage_class: Name | None = Field(None, description="For example `STANDARD_IA`.")
    object_tags: Annotated[dict[Name, str], Field(max_length=10)] = Field(
        {}, description="Tags of each object (not metadata)."
    )
    presign: Time = Field(
        0,
        ge=0,
        le=604_800,
        description=(
            "Send the requester a URL that opens the savefile for this many seconds; 0: none."
        ),
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether URLs have the bucket's name in the path or the host name."
    )
    checksums: Literal["auto", "when_required", "when_supported"] = Field(
        "auto",
        description=(
            "CRC32 of uploads. `auto` is `when_required` with an `endpoint`, because many servers"
            " refuse them."
        ),
    )
    allow_buckets: Names = Field((), description="Other buckets that a request may name.")
    allow_endpoints: Names = Field(
        (),
        description="Other endpoints that a request may name, with the same credentials.",
    )
    allow_acls: Annotated[tuple[Acl, ...], Field(strict=False)] = Field(
        (), description="Other ACLs that a request may name."
    )

    @field_validator("folder")
    @classmethod
    def _folder_is_one(cls, folder: str) -> str:
        if problem := folder_problem(folder):
            raise ValueError(problem)
        return folder.strip("/")

    @field_validator("endpoint", "allow_endpoints")
    @classmethod
    def _endpoints_are_some(
        cls, value: str | tuple[str, ...] | None
    ) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            endpoint_url(text)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.upload and not self.bucket:
            raise ValueError("bucket is missing; set it, or upload = false")
        if (self.accessid is None) != (self.accesskey is None):
            raise ValueError("set both accessid and accesskey, or neither for AWS's default chain")
        return self

    def flaws(self) -> list[str]:
        """Return warnings about what strangers can read, in the bucket or on the network."""
        public = [
            f"[s3] acl = {acl}: anybody can read the savefiles"
            for acl in {self.acl, *self.allow_acls}
            if acl in PUBLIC_ACLS
        ]
        plain = unencrypted((self.endpoint, *self.allow_endpoints))
        return public + [
            f"[s3] {endpoint}: savefiles are sent there unencrypted" for endpoint in plain
        ]

    def files(self) -> tuple[str, ...]:
        """Return the files of AWS's default chain, unless keys are configured."""
        return () if self.accessid else aws_files()
