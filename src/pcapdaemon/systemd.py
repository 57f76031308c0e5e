"""Messages to systemd, if it asks for them: sd_notify(3)."""

import asyncio
import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send lines such as READY=1 to systemd; without it nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with (
        socket.socket(socket.AF_UNIX, kind) as sender,
        contextlib.suppress(OSError),
    ):  # it is a courtesy
        sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


async def feed_watchdog() -> None:
    """Say that the event loop still turns, twice in each WatchdogSec=, for ever."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    while microseconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(microseconds / 2e6)
