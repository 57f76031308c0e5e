"""Notifications to systemd, if it asks for them: see sd_notify(3)."""

import asyncio
import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a line such as READY=1 to systemd; do nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    # a failed notification must not stop the daemon
    with socket.socket(socket.AF_UNIX, kind) as sender, contextlib.suppress(OSError):
        sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


async def feed_watchdog() -> None:
    """Notify the watchdog twice in each WatchdogSec=, as long as the event loop runs."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    while microseconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(microseconds / 2e6)
