from typing import Self

from pcapdaemon.native.blocks import BlockPool, Blocks

class SharedLimits:
    def __new__(cls, overhead: int) -> Self: ...

def join(captures: list[Blocks], pool: BlockPool) -> Blocks: ...
def merge(
    captures: list[Blocks], pool: BlockPool, skip_packets: int, skip_bytes: int
) -> tuple[Blocks, list[int]]: ...
