"""The section `[sqs]`."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from pcapdaemon.core.network import unencrypted
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Time
from pcapdaemon.secrets import aws_files
from pcapdaemon.sources.base import Places

Name = Annotated[str, Field(min_length=1)]


class SqsSettings(Section):
    """`[sqs]`: one queue."""

    listen: bool = Field(False, description="Receive requests from Amazon SQS.")
    url: Name | None = Field(None, description="The queue's URL. Exactly one of `url` and `queue`.")
    queue: Name | None = Field(
        None, description="The queue's name; `{node}` is the node's name: `pcapdaemon-{node}`."
    )
    shared: bool = Field(
        False,
        description=(
            "Nodes share the queue. A message for another node is returned to it, and deleted once"
            " it has expired."
        ),
    )
    region: Name | None = Field(
        None, description="Absent: the region in the URL, else in the AWS configuration."
    )
    endpoint: Name | None = Field(None, description="URL of a service that is not Amazon's.")
    accessid: Name | None = Field(
        None, description="Access key ID; absent: AWS's default chain (role, environment, files)."
    )
    accesskey: SecretStr | None = Field(None, description="Secret access key.")
    waitseconds: Time = Field(
        20,
        ge=0,
        le=20,
        description="Seconds that a request to an empty queue waits for a message.",
    )
    chunksize: int = Field(10, ge=1, le=10, description="Most messages per request.")
    visibility: Time = Field(
        30,
        ge=5,
        le=43200,
        description="Seconds that SQS hides a message from others until it is settled.",
    )
    ack: Literal["accept", "finish"] = Field(
        "accept",
        description=(
            "When a message is deleted: once its request is accepted, or once its captures are"
            " delivered."
        ),
    )
    bad: Literal["delete", "leave"] = Field(
        "delete",
        description=(
            "What happens to a message that is not a valid request, after it was answered. `leave`"
            " is for a dead-letter queue."
        ),
    )
    results: Name | Places | None = Field(
        None,
        description=(
            "Name or URL of a queue for results, or an array of them. `reply_to` picks one; the"
            " default is the first. Absent: none."
        ),
    )

    @model_validator(mode="after")
    def _one_queue(self) -> Self:
        if self.listen and (self.url is None) == (self.queue is None):
            raise ValueError("set either url or queue")
        if (self.accessid is None) != (self.accesskey is None):
            raise ValueError("set both accessid and accesskey, or neither for AWS's default chain")
        if self.url is not None and not re.match(r"https?://[^/]+/.", self.url):
            raise ValueError("url must look like https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE")
        return self

    def flaws(self) -> list[str]:
        """Return a warning if others on the network can read and send requests."""
        plain = unencrypted((self.url, self.endpoint))
        return [f"[sqs] {url}: requests and results are sent unencrypted" for url in plain]

    def files(self) -> tuple[str, ...]:
        """Return the files of AWS's default chain, unless keys are configured."""
        return () if self.accessid else aws_files()
