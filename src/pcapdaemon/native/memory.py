"""The memory budget of captures: blocks that hold packets, and the kernel's buffers."""

from pcapdaemon.core.errors import Busy
from pcapdaemon.native.blocks import BlockPool

BLOCK_SIZE = 1024 * 1024
RESERVE = 16 * 1024 * 1024
"""Bytes of blocks that stay warm, so that the first capture after a rest need not wait for pages.

A capture with the default limits on packets and snapshot length fits, if packets are short.
"""

SMALLEST_KERNEL_BUFFER = 2 * 1024 * 1024
"""libpcap's own default (pcap-linux.c). A capture gets this when the budget is nearly used up."""


class MemoryBudget:
    """One budget in bytes for all captures of the process. Any thread may use it.

    The kernel's capture buffers are mapped into the process, so they are part of its resident
    memory and count towards the budget.
    """

    def __init__(self, limit: int) -> None:
        self.pool = BlockPool(limit, BLOCK_SIZE)

    @property
    def limit(self) -> int:
        """The budget in bytes."""
        return self.pool.limit

    def configure(self, limit: int, wipe: bool = False) -> None:
        """Change the budget. A smaller one takes effect as memory is returned.

        With `wipe`, memory that held packets is overwritten when it is no longer used.
        """
        if wipe and not self.pool.wipe:
            self.pool.trim(0)  # warm blocks have packets of before
        self.pool.limit, self.pool.wipe = limit, wipe

    @property
    def used(self) -> int:
        """Bytes in use by captures, savefiles and kernel buffers."""
        return self.pool.used

    def take_kernel_buffer(self, wanted: int) -> int:
        """Count a kernel buffer, and return how large it may be in bytes.

        This is `wanted`, or less if many captures share the budget. A buffer takes at most an
        eighth of the free memory, but at least SMALLEST_KERNEL_BUFFER, which leaves room for
        packets and for others.

        Raises Busy if the smallest buffer and one block do not fit.
        """
        size = min(wanted, max(SMALLEST_KERNEL_BUFFER, (self.limit - self.used) // 8))
        if self.limit - self.used < size + BLOCK_SIZE or not self.pool.reserve(size):
            raise Busy(
                f"all memory for captures is in use ([general] memory = {self.limit})",
                "try again later",
            )
        return size

    def give_kernel_buffer(self, size: int) -> None:
        """Stop counting a kernel buffer, whose handle is closed."""
        self.pool.unreserve(size)

    def offer(self) -> None:
        """Let the system take warm blocks, which nobody uses, if it needs memory.

        RESERVE bytes stay. Until it takes the others, they count as resident memory.
        """
        self.pool.offer(self._reserve)

    def trim(self) -> None:
        """Return warm blocks to the system, but for RESERVE bytes."""
        self.pool.trim(self._reserve)

    @property
    def _reserve(self) -> int:
        return min(RESERVE, self.limit // 16) // BLOCK_SIZE
