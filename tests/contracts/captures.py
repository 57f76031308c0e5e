"""Harnesses that drive each packet source in the tests of its contract."""

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pcapdaemon.capture.live import CaptureSettings, LiveSource
from pcapdaemon.capture.recorder import Recorder, RecorderSettings
from pcapdaemon.capture.replay import ReplaySource
from pcapdaemon.capture.source import PacketSource
from pcapdaemon.core.interface import Interface, InterfaceKind, Replay
from pcapdaemon.native.memory import MemoryBudget
from tests.helpers import Wire, eventually

Script = Sequence[tuple[float, int]]
"""Traffic: pairs of seconds to wait and frames to send, numbered from 0 on."""


class Harness:
    """One source, and traffic for it. `budget` holds its packets."""

    takes_time = True
    """Whether its packets arrive over time."""
    budget: MemoryBudget

    def __init__(self, wire: Wire, directory: Path, budget: MemoryBudget) -> None:
        self.wire, self.directory, self.budget = wire, directory, budget

    @contextmanager
    def source(self, script: Script, size: int = 100) -> Iterator[PacketSource]:
        """Yield a source that is not armed. Its traffic begins with `play`."""
        raise NotImplementedError
        yield

    def play(self, script: Script, size: int = 100) -> None:
        """Send the traffic. Returns when the last frame is sent."""
        number = 0
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((self.wire.near, 0))
            for pause, frames in script:
                time.sleep(pause)  # the pace of the traffic
                for _ in range(frames):
                    sender.send(frame(number, size))
                    number += 1

    @property
    def interface(self) -> Interface:
        """The receiving end of the wire."""
        return Interface(self.wire.far, InterfaceKind.NETWORK)


class LiveHarness(Harness):
    @contextmanager
    def source(self, script: Script, size: int = 100) -> Iterator[PacketSource]:
        source = LiveSource(self.interface, self.budget, CaptureSettings())
        yield source
        source.close()


class RecordedHarness(Harness):
    @contextmanager
    def source(self, script: Script, size: int = 100) -> Iterator[PacketSource]:
        settings = RecorderSettings(interface=self.wire.far, seconds=30, memory=16 << 20)
        recorder = Recorder(settings, self.wire.far, 2 << 20, lambda *_: None)
        recorder.start()
        eventually(lambda: recorder.is_open)
        source = recorder.source(self.budget, time.monotonic_ns(), 0)
        assert source
        yield source
        source.close()
        recorder.close()


class ReplayHarness(Harness):
    takes_time = paced = False

    @contextmanager
    def source(self, script: Script, size: int = 100) -> Iterator[PacketSource]:
        file = self.directory / "replayed.pcap"
        file.write_bytes(pcap(script, size))
        source = ReplaySource("played0", Replay(str(file), self.paced), self.budget)
        yield source
        source.close()

    def play(self, script: Script, size: int = 100) -> None:
        """Do nothing, because the file has all frames."""


class PacedReplayHarness(ReplayHarness):
    takes_time = paced = True


HARNESSES: dict[str, type[Harness]] = {
    "live": LiveHarness,
    "recorded": RecordedHarness,
    "replay": ReplayHarness,
    "replay-paced": PacedReplayHarness,
}

BEGIN = 1_700_000_000


def frame(number: int, size: int = 100) -> bytes:
    """Return a frame like those of the sender."""
    addresses = bytes.fromhex("ffffffffffff0200000000010800")
    length = size - len(addresses)
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 17, 0, b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
    )
    udp = struct.pack(">HHHH", 10000, 20000, length - 20, 0)
    return (addresses + ip + udp + struct.pack(">Q", number)).ljust(size, b"\0")


def pcap(
    script: Script, size: int = 100, order: str = "<", magic: int = 0xA1B2C3D4, tick: int = 1000
) -> bytes:
    """Return a pcap file of the traffic, with a frame every 0.1 ms.

    `tick` is the nanoseconds per unit of its times.
    """
    made = bytearray(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, 1))
    now, number = BEGIN * 10**9, 0
    for pause, frames in script:
        now += int(pause * 1e9)
        for _ in range(frames):
            seconds, rest = divmod(now, 10**9)
            made += struct.pack(f"{order}IIII", seconds, rest // tick, size, size) + frame(
                number, size
            )
            now, number = now + 100_000, number + 1
    return bytes(made)


def run(source: PacketSource) -> "Running":
    """Run an armed source in a thread of its own."""
    return Running(source)


class Running:
    """A source that runs in a thread of its own."""

    def __init__(self, source: PacketSource) -> None:
        self._source, self._reason = source, ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._reason = self._source.run()

    def reason(self) -> str:
        """Wait for its end, and return the reason."""
        self._thread.join(15)
        assert not self._thread.is_alive(), "it does not end"
        return self._reason
