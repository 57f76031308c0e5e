from typing import Self

from pcapdaemon.native.blocks import BlockPool
from pcapdaemon.native.capture import Capture

STOP_REASONS: tuple[str, ...]

class LiveCapture(Capture):
    def __new__(cls, interface: str, pool: BlockPool) -> Self: ...
    def open(
        self,
        *,
        snaplen: int,
        promiscuous: bool,
        buffer_size: int,
        buffer_timeout_ms: int,
        loopback: bool,
    ) -> None: ...
    def open_handle(
        self,
        *,
        snaplen: int,
        promiscuous: bool,
        buffer_size: int,
        buffer_timeout_ms: int,
        loopback: bool,
    ) -> None: ...
    def adopt(self, other: LiveCapture, *, snaplen: int, buffer_timeout_ms: int) -> None: ...
    @property
    def is_usable(self) -> bool: ...
    def set_filter(self, expression: str, names: bool) -> None: ...
    def run(self) -> str: ...
    def stop(self) -> None: ...
    @property
    def stats(self) -> tuple[int, int, int]: ...
    @property
    def down(self) -> float: ...

def list_devices() -> list[tuple[str, str, bool, bool, list[tuple[str, str]]]]: ...
def library_version() -> str: ...
