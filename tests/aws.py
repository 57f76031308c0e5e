"""S3, SQS and SNS as moto serves them, in a process that can be killed and frozen.

What it stored is lost with it.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx2
from botocore.config import Config

from tests.helpers import eventually
from tests.servers import Server, free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


class MotoServer(Server):
    """A moto server on its own port."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.host, self.port, self._directory = host, free_port(), directory

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> "MotoServer":
        """Start the server, and wait until it answers."""
        command = [sys.executable, "-m", "tests.moto_server", "-H", "0.0.0.0", "-p", str(self.port)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with (self._directory / "moto.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdout=log, stderr=log, env=env
            )
        eventually(self._answers, 30)
        return self

    def want_credentials(self) -> None:
        """Check access keys from now on, as AWS does; `test` is not a valid one."""
        httpx2.post(f"{self.url}/moto-api/reset-auth", content=b"0").raise_for_status()

    @property
    def sqs(self) -> "SQSClient":
        """A client for queues."""
        client: SQSClient = boto3.client("sqs", endpoint_url=self.url, config=_patient(), **KEYS)
        return client

    @property
    def sns(self) -> "SNSClient":
        """A client for topics."""
        client: SNSClient = boto3.client("sns", endpoint_url=self.url, config=_patient(), **KEYS)
        return client

    @property
    def s3(self) -> "S3Client":
        """A client for buckets."""
        client: S3Client = boto3.client("s3", endpoint_url=self.url, config=_patient(), **KEYS)
        return client

    def bucket(self, name: str) -> str:
        """Create a bucket, and return its name."""
        self.s3.create_bucket(Bucket=name)
        return name

    def object(self, where: str) -> bytes:
        """Return the object at an s3:// URL."""
        bucket, _, key = where.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def section(self, bucket: str, **more: Any) -> dict[str, Any]:
        """Return the configuration of a bucket on this server."""
        return {
            "upload": True,
            "bucket": bucket,
            "endpoint": self.url,
            "accessid": "test",
            "accesskey": "test",
            **more,
        }

    def queue(self, name: str, **attributes: Any) -> str:
        """Create a queue, and return its URL."""
        settings: Any = attributes
        return self.sqs.create_queue(QueueName=name, Attributes=settings)["QueueUrl"]

    def left(self, url: str) -> int:
        """Return how many messages a queue has, visible or not."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return (
                httpx2.get(
                    f"http://127.0.0.1:{self.port}/moto-api/data.json", timeout=2
                ).status_code
                == 200
            )
        except (OSError, httpx2.HTTPError):
            return False


def _patient() -> Config:
    return Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=30)
