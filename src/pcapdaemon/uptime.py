"""The age of things, by a clock that nobody sets."""

import time

CLOSE = 20_000
"""Nanoseconds between two readings of clocks that count as the same moment."""


def uptime() -> float:
    """Return seconds since the machine was started, without sleep; the same in all processes.

    Ages are differences of it, because the wall clock is set: by NTP after a boot with an empty
    battery, by people, by a hypervisor.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def since(moment: float) -> float:
    """Return the seconds since an `uptime` that may be of an earlier start of the machine.

    It is never more than really passed, and it is 0 if the machine was started later.
    """
    return max(0.0, uptime() - moment)


def both_clocks() -> tuple[int, int]:
    """Return the same moment by the monotonic clock and since the epoch, in nanoseconds.

    The clocks are read in turn, and again if this thread was not running in between.
    """
    found, apart = (0, 0), None
    for _ in range(4):
        before = time.monotonic_ns()
        wall = time.time_ns()
        took = time.monotonic_ns() - before
        if apart is None or took < apart:
            found, apart = (before, wall), took
        if apart < CLOSE:
            break
    return found
