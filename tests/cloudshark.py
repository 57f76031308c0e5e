"""A small CloudShark as its API describes it (support.cloudshark.io/api).

It has uploads, search and all kinds of trouble.
"""

import hashlib
import json
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.helpers import eventually
from tests.servers import Server, free_port

TOKEN = "0123456789abcdef0123456789abcdef"


class _Quiet(WSGIRequestHandler):
    # the base names it so
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


class CloudSharkServer(Server):
    """A server in its own process.

    It can be frozen, killed and started again; it forgets nothing.
    """

    def __init__(self, directory: Path, tls: Path | None = None) -> None:
        self.port, self._directory, self._tls = free_port(), directory, tls
        self.scheme = "https" if tls else "http"

    def start(self) -> "CloudSharkServer":
        """Start the server, and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "tests.cloudshark",
            str(self.port),
            str(self._directory),
            str(self._tls or ""),
        ]
        root = Path(__file__).parents[1]
        with (self._directory / "cloudshark.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
        eventually(self._answers, 20)
        return self

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def section(self, **more: Any) -> dict[str, Any]:
        """Return the configuration of this server."""
        where = {"scheme": self.scheme, "host": "127.0.0.1", "port": self.port}
        return {"upload": True, "token": TOKEN, **where, **more}

    def trouble(self, *what: int | str) -> None:
        """Choose the answers to the next requests: each a status, or a word that `App` knows."""
        self._http("PUT", "trouble", json=what)

    @property
    def uploads(self) -> list[dict[str, Any]]:
        """All uploads.

        Each has id, filename, part (the name of the form's part), tags, comments, size and sha256.
        """
        found: list[dict[str, Any]] = self._http("GET", "uploads").json()
        return found

    @property
    def paths(self) -> list[str]:
        """The paths of all requests."""
        found: list[str] = self._http("GET", "paths").json()
        return found

    def content(self, upload: dict[str, Any]) -> bytes:
        """Return the bytes of an upload."""
        return self._http("GET", f"content/{upload['id']}").content

    def _http(self, method: str, call: str, **more: Any) -> httpx2.Response:
        with httpx2.Client(verify=False, timeout=30) as http:
            response = http.request(method, f"{self.url}/control/{call}", **more)
            response.raise_for_status()
            return response

    def _answers(self) -> bool:
        try:
            return self._http("GET", "paths").is_success
        except httpx2.HTTPError:
            return False


class App:
    """What the process serves.

    `trouble` chooses the answers to the next requests: each a status, or one of these words.

    "html" (200 with a page), "close" (no answer), "lost" (uploaded, but no answer), "hang" (nothing
    after the headers), "redirect", "slow" (503 with Retry-After: 1), "garbage" (not HTTP), "echo"
    (500 with the request's own URL).
    """

    def __init__(self, directory: Path) -> None:
        self.uploads: list[dict[str, Any]] = []
        self.trouble: deque[int | str] = deque()
        self.paths: list[str] = []
        self._directory = directory / "cloudshark"
        self._directory.mkdir(exist_ok=True)
        for manifest in sorted(self._directory.glob("*.json")):
            self.uploads.append(json.loads(manifest.read_text()))
        self._lock = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        request = Request(environ)
        if request.path.startswith("/control/"):
            return self._control(request)(environ, start_response)
        self.paths.append(request.full_path)
        trouble = self.trouble.popleft() if self.trouble else None
        if trouble in ("close", "garbage"):
            return self._break_off(
                environ, b"no HTTP at all\r\n\r\n" if trouble == "garbage" else b""
            )
        if trouble is not None:
            # a server reads the request before it answers, whatever the answer
            request.get_data(parse_form_data=trouble in ("lost", "hang"))
        response = (
            self._troubled(request, trouble)
            if trouble not in (None, "lost", "hang")
            else self._obey(request)
        )
        if trouble == "lost":
            return self._break_off(environ)
        if trouble == "hang":
            return self._hang(environ, start_response)
        return response(environ, start_response)

    def _control(self, request: Request) -> Response:
        call = request.path.removeprefix("/control/")
        if call == "trouble":
            self.trouble = deque(json.loads(request.get_data()))
        if call.startswith("content/"):
            return Response((self._directory / call.removeprefix("content/")).read_bytes())
        return Response(
            json.dumps({"uploads": self.uploads, "paths": self.paths}.get(call)),
            mimetype="application/json",
        )

    def _obey(self, request: Request) -> Response:
        _, api, version, token, call = (*request.path.split("/"), "", "", "", "", "")[:5]
        if (api, version) != ("api", "v1"):
            return _failure(404, "no such page")
        if token.lower() != TOKEN:
            return _failure(404, f"no such token: {token}")
        if call == "search":
            name = request.args.get("search[filename]")
            found = [
                {"id": one["id"], "filename": name}
                for one in self.uploads
                if one["filename"] == name
            ]
            return Response(
                json.dumps({"num_found": len(found), "captures": found}),
                200,
                mimetype="application/json",
            )
        if call != "upload" or request.method != "POST" or "file" not in request.files:
            return _failure(422, "a file is missing")
        return self._keep(request)

    def _keep(self, request: Request) -> Response:
        file, form, number = request.files["file"], request.form, secrets.token_hex(6)
        content = file.stream.read()
        (self._directory / number).write_bytes(content)
        upload = {
            "id": number,
            "filename": form.get("filename", file.filename),
            "part": file.filename,
            "tags": form.get("additional_tags", ""),
            "comments": form.get("comments", ""),
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with self._lock:
            (self._directory / f"{len(self.uploads):06}.json").write_text(json.dumps(upload))
            self.uploads.append(upload)
        return Response(
            json.dumps({"filename": upload["filename"], "id": number}),
            200,
            mimetype="text/javascript",
        )

    def _troubled(self, request: Request, trouble: int | str | None) -> Response:
        if isinstance(trouble, int):
            return _failure(trouble, "not today")
        return {
            "html": Response(
                "<html>Welcome to the hotel's network</html>", 200, mimetype="text/html"
            ),
            "redirect": Response("", 301, {"Location": f"https://other.example{request.path}"}),
            "slow": Response("busy", 503, {"Retry-After": "1"}),
            "echo": Response(f"trace: {request.url}", 500),
        }[str(trouble)]

    def _hang(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "100")])
        yield b"{"
        time.sleep(600)

    def _break_off(self, environ: Any, words: bytes = b"") -> Iterable[bytes]:
        connection: socket.socket = environ["werkzeug.socket"]
        if words:
            connection.sendall(words)
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionError("as asked")


def _failure(status: int, words: str) -> Response:
    return Response(
        json.dumps({"status": status, "exceptions": [words]}), status, mimetype="application/json"
    )


def main(port: int, directory: Path, tls: str) -> None:
    """Serve until the process ends."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(tls) / "server.pem", Path(tls) / "server.key")
    app = App(directory)
    make_server(
        "127.0.0.1", port, app, threaded=True, request_handler=_Quiet, ssl_context=context
    ).serve_forever(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
