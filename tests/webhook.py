"""A receiver of webhooks that verifies signatures as standardwebhooks.com specifies."""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers import free_port

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()


class Receiver:
    """Listens in a thread. It answers each of `statuses` once, then 204."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.events: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.forged = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                if status == 204:
                    receiver.take(body, dict(self.headers.items()))
                self.send_response(status)
                self.end_headers()

            # the base names it so
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The receiver's URL, with a part that must not be logged."""
        return f"http://127.0.0.1:{self.port}/hook?key=s3cret-in-url"

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Verify the signature, and keep the event."""
        lower = {name.lower(): value for name, value in headers.items()}
        signed = f"{lower['webhook-id']}.{lower['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        right = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        if right in lower.get("webhook-signature", "").split():
            self.events.append(json.loads(body))
        else:
            self.forged += 1

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Plain(Receiver):
    """Keeps what comes as it is: headers and JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[dict[str, str], Any]] = []

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Keep a request."""
        lower = {name.lower(): value for name, value in headers.items()}
        self.requests.append((lower, json.loads(body)))
