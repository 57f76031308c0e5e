"""The age of things, by a clock that nobody sets."""

import time


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
