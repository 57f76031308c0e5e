"""Secrets and certificates that are replaced while the daemon runs, without a signal."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.conftest import Make
from tests.cloudshark import CloudSharkServer
from tests.helpers import Wire, certificates, eventually
from tests.servers import DaemonProcess, RedisServer, free_port
from tests.webhook import SECRET, Receiver


def replace(file: Path, content: str) -> None:
    """Replace a file as Kubernetes and certbot do: by another one."""
    new = file.with_suffix(".new")
    new.write_text(content)
    os.replace(new, file)


def test_the_tokens_of_the_api(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    daemon = make({"http": {"token_file": str(file)}}).start()

    def status(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        return daemon.api("GET", "/readyz", headers=headers).status_code

    assert (status("first-token"), status("second-token")) == (200, 401)
    replace(file, "second-token")
    eventually(lambda: status("second-token") == 200, 10)
    assert status("first-token") == 401
    eventually(lambda: daemon.logged("secrets or certificates changed", sections=["http"]))
    assert daemon.stop() == 0


def test_a_file_that_is_wrong_is_reported_once_and_the_old_secret_stays(
    make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first-token")
    daemon = make({"http": {"token_file": str(file)}}).start()
    headers = {"authorization": "Bearer first-token"}
    replace(file, "x")
    eventually(lambda: daemon.logged("configuration refused, the old one is kept"), 10)
    file.unlink()
    eventually(lambda: len(daemon.logged("configuration refused, the old one is kept")) == 1, 10)
    assert daemon.api("GET", "/readyz", headers=headers).status_code == 200
    file.write_text("third-token")
    headers = {"authorization": "Bearer third-token"}
    eventually(lambda: daemon.api("GET", "/readyz", headers=headers).status_code == 200, 10)
    daemon.reported("configuration refused, the old one is kept", 1)


@pytest.mark.parametrize("stream", [False, True])
def test_the_password_of_a_bus(make: Make, tmp_path: Path, wire: Wire, stream: bool) -> None:
    redis = RedisServer(tmp_path, "--requirepass", "first").start()
    file = tmp_path / "password"
    file.write_text("first\n")
    section = {"listen": True, "host": "127.0.0.1", "port": redis.port, "auth_file": str(file)}
    more = {"stream": "capture"} if stream else {}
    daemon = make({"redis": {**section, **more}}).start()
    eventually(lambda: daemon.logged("source connected"))
    with redis.client(password="first") as client:
        client.config_set("requirepass", "second")
        replace(file, "second\n")
        eventually(lambda: len(daemon.logged("source connected")) == 2, 20)
        request = json.dumps({"node": "any", "interface": [wire.far], "id": "after", "packets": 1})
        if stream:
            client.xadd("capture", {"request": request})
        else:
            client.publish("capture", request)
    eventually(lambda: daemon.logged("capture started", id="after"))
    assert daemon.stop() == 0
    redis.kill()


def test_certificates_of_a_bus(make: Make, tmp_path: Path, wire: Wire) -> None:
    """The certificate authority is replaced, and with it the server's certificate."""
    old, new, trusted = tmp_path / "old", tmp_path / "new", tmp_path / "ca.pem"
    for directory in (old, new):
        directory.mkdir()
        certificates(directory)
    shutil.copy(old / "ca.pem", trusted)
    port = free_port()

    def server(directory: Path) -> RedisServer:
        names = ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]
        names += ["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no"]
        return RedisServer(directory, "--tls-port", str(port), *names).start()

    redis = server(old)
    section = {"listen": True, "host": "127.0.0.1", "port": port, "tls": True}
    daemon = make({"redis": {**section, "ca_file": str(trusted)}}).start()
    eventually(lambda: daemon.logged("source connected"))
    redis.kill()
    redis = server(new)
    eventually(lambda: any("certificate" in line["reason"] for line in lost(daemon)), 20)
    replace(trusted, (new / "ca.pem").read_text())
    eventually(lambda: len(daemon.logged("source connected")) == 2, 20)
    assert daemon.stop() == 0
    redis.kill()


def warned(daemon: DaemonProcess, words: str) -> bool:
    return any(words in line["event"] for line in daemon.log() if line["level"] == "warning")


def lost(daemon: DaemonProcess) -> list[dict[str, str]]:
    return daemon.logged("source not connected")


def test_the_token_of_a_destination(make: Make, tmp_path: Path, wire: Wire) -> None:
    server = CloudSharkServer(tmp_path).start()
    section = server.section()
    file = tmp_path / "cstoken"
    file.write_text("f" * 32)
    token = section.pop("token")
    daemon = make(
        {
            "cloudshark": {**section, "token_file": str(file)},
            "spool": {"dir": str(tmp_path / "spool")},
        }
    ).start()
    daemon.request(interface=[wire.far], id="one", packets=3)
    eventually(lambda: daemon.logged("capture started", id="one"))
    wire.send(3)
    eventually(lambda: daemon.logged("savefile waits in the spool"), 20)
    replace(file, token)
    eventually(lambda: daemon.logged("savefile delivered", destination="cloudshark"), 20)
    assert daemon.stop() == 0
    server.kill()


def test_a_reload_at_the_same_moment_does_not_hide_the_change(make: Make, tmp_path: Path) -> None:
    """What renews certificates often sends SIGHUP itself."""
    redis = RedisServer(tmp_path, "--requirepass", "first").start()
    ca = tmp_path / "ca.pem"
    directory = tmp_path / "certificates"
    directory.mkdir()
    certificates(directory)
    shutil.copy(directory / "ca.pem", ca)
    section = {"listen": True, "host": "127.0.0.1", "port": redis.port, "auth": "first"}
    daemon = make({"redis": {**section, "ca_file": str(ca)}}).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    replace(ca, ca.read_text() + "\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: len(daemon.logged("source connected", source="redis")) == 2)
    assert daemon.stop() == 0
    redis.kill()


def test_the_signing_key_of_the_webhook(make: Make, tmp_path: Path, wire: Wire) -> None:
    hook, file = Receiver(), tmp_path / "secret"
    file.write_text("whsec_Zmlyc3Qga2V5")
    daemon = make({"results": {"webhook": hook.url, "secret_file": str(file)}}).start()
    replace(file, SECRET)
    eventually(lambda: daemon.logged("configuration reloaded"), 10)
    daemon.request(interface=[wire.far], id="one", duration=1)
    eventually(lambda: hook.events)
    assert not hook.forged
    assert daemon.stop() == 0


def test_transports_that_others_can_read_are_warned_of(make: Make) -> None:
    tables = {
        "redis": {"listen": True, "host": "redis.test"},
        "kafka": {"listen": True, "server": "kafka.test:9092"},
        "sqs": {"listen": True, "url": "http://sqs.test/1/q"},
        "results": {"webhook": "http://hook.test/x"},
        "s3": {"upload": True, "bucket": "b", "endpoint": "http://minio.test:9000"},
    }
    daemon = make(tables).start()
    for words in (
        "[redis] without TLS",
        "[kafka.client] security.protocol = PLAINTEXT",
        "[sqs] http://sqs.test/1/q",
        "[results] webhook is http://",
        "[results] without secret",
        "[s3] http://minio.test:9000",
    ):
        eventually(partial(warned, daemon, words))
