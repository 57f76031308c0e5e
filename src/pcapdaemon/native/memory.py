"""The budget.

Memory for packets, given out in blocks and taken back, and the kernel's buffers that count in it.
"""

from pcapdaemon.core.errors import Busy
from pcapdaemon.native.blocks import BlockPool

BLOCK_SIZE = 1024 * 1024
SMALLEST_KERNEL_BUFFER = 2 * 1024 * 1024
"""libpcap's own default (pcap-linux.c): what a capture gets where the budget is nearly spent."""


class MemoryBudget:
    """One budget in bytes for all captures of the process; may be used from any thread.

    The kernel's capture buffers are mapped into the process and so are part of its resident memory:
    they count.
    """

    def __init__(self, limit: int) -> None:
        self.pool = BlockPool(limit, BLOCK_SIZE)

    @property
    def limit(self) -> int:
        """The budget."""
        return self.pool.limit

    def configure(self, limit: int) -> None:
        """Change the budget; a smaller one takes effect as memory comes back."""
        self.pool.limit = limit

    @property
    def used(self) -> int:
        """Bytes in use by captures, savefiles and kernel buffers."""
        return self.pool.used

    def take_kernel_buffer(self, wanted: int) -> int:
        """Count a kernel buffer and say how large it may be.

        `wanted`, or less where many captures share the budget.

        An eighth of what is free leaves room for what is captured, and for others. Raises Busy
        where not even the smallest one and a block fit.
        """
        size = min(wanted, max(SMALLEST_KERNEL_BUFFER, (self.limit - self.used) // 8))
        if self.limit - self.used < size + BLOCK_SIZE or not self.pool.reserve(size):
            raise Busy(
                f"the memory for captures is in use ([general] memory = {self.limit})",
                "try again later",
            )
        return size

    def give_kernel_buffer(self, size: int) -> None:
        """Count a kernel buffer no longer: its handle is closed."""
        self.pool.unreserve(size)

    def trim(self) -> None:
        """Give warm blocks that nobody uses back to the system."""
        self.pool.trim()
