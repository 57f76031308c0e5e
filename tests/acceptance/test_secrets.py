"""No output contains a secret, whatever goes wrong."""

import threading
from pathlib import Path

import httpx2

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.cloudshark import TOKEN, CloudSharkServer
from tests.contracts.sources import Shared
from tests.helpers import Wire, eventually
from tests.servers import free_port

TROUBLE: tuple[int | str, ...] = (
    "echo",
    500,
    503,
    "close",
    "garbage",
    "html",
    "redirect",
    404,
    400,
    422,
    "lost",
)
ACCESS_KEY, HOOK_SECRET, HOOK_URL = (
    "s3-access-key-secret",
    "webhook-signing-secret",
    "key-in-the-webhooks-url",
)


def test_the_token_and_all_keys_are_in_no_log_error_event_metric_or_file(
    make: Make, shared: Shared, wire: Wire, tmp_path: Path
) -> None:
    server = CloudSharkServer(tmp_path).start()
    wrong = {
        "upload": True,
        "bucket": "none-of-this-name",
        "endpoint": shared.moto.url,
        "accessid": "id",
        "accesskey": ACCESS_KEY,
    }
    hook = {"webhook": f"http://127.0.0.1:{free_port()}/?k={HOOK_URL}", "secret": HOOK_SECRET}
    daemon = make(
        {
            "cloudshark": server.section(),
            "s3": wrong,
            "spool": {"dir": str(tmp_path / "spool")},
            "results": {**hook, "events": ["accepted", "failed", "finished"]},
            "delivery": {"memory_grace": 1},
        }
    ).start()
    said: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        with httpx2.stream("GET", f"http://127.0.0.1:{daemon.port}/events", timeout=60) as response:
            for line in response.iter_lines():
                listening.set()
                said.append(line)

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(10)
    for number, trouble in enumerate(TROUBLE):
        server.trouble(trouble, trouble)
        daemon.request(interface=[wire.far], id=str(number), packets=3)
        eventually(lambda name=str(number): daemon.logged("capture started", id=name))  # type: ignore[misc]
        wire.send(3)
        eventually(lambda name=str(number): daemon.logged("request finished", id=name))  # type: ignore[misc]
        said.append(daemon.api("GET", f"/captures/{number}").text)
    said += [
        daemon.api("GET", path).text
        for path in ("/metrics", "/captures", "/readyz", "/docs", "/openapi.json")
    ]
    server.trouble(500)
    for words in (
        ("check", "--config", str(daemon.config)),
        ("spool", "list", "--config", str(daemon.config), "--json"),
    ):
        result = command(*words)
        said += [result.stdout, result.stderr]
    said += [path.read_text(errors="replace") for path in (tmp_path / "spool").glob("*.json")]
    assert daemon.stop() == 0
    thread.join(10)
    said.append(daemon.log_path.read_text())
    everything = "\n".join(said).lower()
    assert "nosuchbucket" in everything, "the problems were reported"
    assert "***" in everything, "and what the server echoed"
    for secret in (TOKEN, ACCESS_KEY, HOOK_SECRET, HOOK_URL):
        assert secret.lower() not in everything
    server.kill()
