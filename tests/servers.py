"""Real servers and daemons as processes, on free ports."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import redis

from tests.helpers import eventually

PCAPDAEMON = Path(sys.executable).with_name("pcapdaemon")


_ports = itertools.count(20000)


def free_port() -> int:
    """Return a port that is free in this namespace.

    It is below the range that the kernel uses for outgoing connections.
    """
    return next(_ports)


class Server:
    """A process that can be killed, and frozen with all its connections."""

    _process: "subprocess.Popen[bytes] | None" = None

    def kill(self) -> None:
        """Kill it, so that its clients are not notified."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it with its connections open, so that it does nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)


class RedisServer(Server):
    """A redis-server that can be killed, restarted on the same port, and frozen."""

    def __init__(self, directory: Path, *options: str, sentinel: Path | None = None) -> None:
        self.port = free_port()
        self._directory, self._options, self._sentinel = directory, options, sentinel

    def start(self) -> "RedisServer":
        """Start it, and wait until it answers."""
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--save",
            "",
            "--bind",
            "127.0.0.1",
            *self._options,
        ]
        if self._sentinel:
            command = [
                "redis-server",
                str(self._sentinel),
                "--sentinel",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
            ]
        self._process = subprocess.Popen(command, cwd=self._directory, stdout=subprocess.DEVNULL)
        eventually(self._answers)
        return self

    def client(self, **options: Any) -> "redis.Redis":
        """Return a client of it."""
        return redis.Redis(port=self.port, **options)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in b"+-"
        except OSError:
            return False


class DaemonProcess:
    """The installed command, which runs as a daemon in its own directory."""

    def __init__(
        self, directory: Path, sections: Mapping[str, Mapping[str, Any]] | None = None, **more: Any
    ) -> None:
        self.directory, self.port = directory, free_port()
        self.captures = directory / "captures"
        self.captures.mkdir(exist_ok=True)
        self.config = directory / "pcapdaemon.toml"
        self.write_config(sections or {})
        self.log_path = directory / "log"
        self._more = more
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the configuration: HTTP and the local directory, overridden by `sections`."""
        tables: dict[str, dict[str, Any]] = {
            "http": {"listen": True, "port": self.port},
            "general": {"writelocal": True, "localdir": str(self.captures)},
        }
        for name, table in sections.items():
            tables[name] = {**tables.get(name, {}), **table}
        lines = [
            line
            for name, table in tables.items()
            for line in (
                _heading(name),
                *(f"{key} = {_toml(value)}" for key, value in table.items()),
            )
        ]
        self.config.write_text("\n".join(lines))

    def start(
        self,
        arguments: Sequence[str] | None = None,
        wrapper: Sequence[str] = (),
        program: str = str(PCAPDAEMON),
    ) -> "DaemonProcess":
        """Start it, and wait until it is up, though its sources may not be connected."""
        started = len(self.logged("started"))
        words = arguments if arguments is not None else ["run", "--config", str(self.config)]
        with self.log_path.open("ab") as log:
            command = [*wrapper, program, *words]
            self.process = subprocess.Popen(command, cwd=self.directory, stderr=log, **self._more)
        eventually(lambda: len(self.logged("started")) > started or self._ended())
        assert self.process.poll() is None, self.log_path.read_text()
        return self

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def log(self) -> list[dict[str, Any]]:
        """Return all log lines."""
        text = self.log_path.read_text() if self.log_path.exists() else ""
        lines = text.rpartition("\n")[0].splitlines()  # the last one may be incomplete
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines of an event with these fields, which are written so far.

        A thread writes them, so a line may follow the answer that it is about.
        """
        return [
            line for line in self.log() if line["event"] == event and fields.items() <= line.items()
        ]

    def reported(self, event: str, number: int, **fields: Any) -> list[dict[str, Any]]:
        """Wait until an event with these fields is logged so often, and no more; return it."""
        eventually(lambda: len(self.logged(event, **fields)) >= number)
        lines = self.logged(event, **fields)
        assert len(lines) == number, lines
        return lines

    def api(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Call its API."""
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            return client.request(method, path, **more)

    def request(self, wait: bool = False, **message: Any) -> httpx2.Response:
        """Send a request for a capture."""
        return self.api(
            "POST", "/captures" + ("?wait=1" if wait else ""), json={"node": "any", **message}
        )

    def record(self, request_id: str) -> dict[str, Any]:
        """Return its record of a request."""
        record: dict[str, Any] = self.api("GET", f"/captures/{request_id}").json()
        return record

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> int:
        """Stop it as systemd would, and return its status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = 40) -> int:
        """Wait until it ends."""
        assert self.process
        return self.process.wait(seconds)

    def lose_directory(self) -> None:
        """Remove its directory.

        It may be checking at the same time whether it can write there.
        """

        def gone() -> bool:
            shutil.rmtree(self.captures, ignore_errors=True)
            return not self.captures.exists()

        eventually(gone)

    def kill(self) -> None:
        """End it as a crash would, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        """End it after a test, if it runs: a measured one writes what it ran."""
        if "COVERAGE_PROCESS_CONFIG" in os.environ and self.process and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()

    def resident(self) -> int:
        """Return its resident memory in bytes."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return (
            int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
            * 1024
        )

    def cpu(self) -> float:
        """Return the seconds of CPU that all its threads have used, user and system.

        The clock of another process is that of clock_getcpuclockid(3).
        """
        assert self.process
        return time.clock_gettime(~self.process.pid << 3 | 2)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        members = (f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items())
        return f"{{{', '.join(members)}}}"
    return json.dumps(value)


def _heading(name: str) -> str:
    """Return the name of a table: `recorder 1` is the first of several tables `recorder`."""
    return f"[[{name.split(maxsplit=1)[0]}]]" if " " in name else f"[{name}]"


def wait_for_file(directory: Path, pattern: str, seconds: float = 10) -> Path:
    """Wait for a file with this pattern in a directory, and return the first."""
    return eventually(lambda: list(directory.glob(pattern)), seconds)[0]
