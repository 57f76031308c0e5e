"""How many packets and bytes a recorder has over time."""

import time

from pcapdaemon.core.interface import RecordedRates
from pcapdaemon.native.recording import Recording

STEPS = 240
"""Most points that are reported."""

SHORTEST = 250_000_000
SECOND = 1_000_000_000


def rates(recording: Recording, began: int, seconds: int) -> RecordedRates:
    """Return the rates of the last `seconds`, or since it `began` (monotonic ns; 0: not yet).

    Blocks for milliseconds.
    """
    length = min(seconds * SECOND, time.monotonic_ns() - began) if began else 0
    step = max(SHORTEST, length // STEPS)
    number = -(-length // step)
    if not number:
        return RecordedRates([], [], [])
    since, begin = (now() - number * step for now in (time.monotonic_ns, time.time_ns))
    counts = recording.counts(since, begin, step, number)
    return RecordedRates(
        [round((begin + n * step) / SECOND, 3) for n in range(number)],
        [round(packets * SECOND / step, 3) for packets, _ in counts],
        [round(size * SECOND / step, 3) for _, size in counts],
    )
