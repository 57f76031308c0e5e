"""Which moments a savefile is about: `since`, `until` and `lookback` of a request. Pure.

All moments are seconds since the epoch.
"""

import math
from dataclasses import dataclass

from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import CaptureRequest, Problem

LARGEST_CLOCK_ERROR = 5.0
"""Seconds by which `since` may be in the future; it then means now."""


@dataclass(frozen=True, slots=True)
class Window:
    """The moments of one capture.

    The limits count from `trigger` on, which lies in the past if only the past is asked for. The
    savefile begins `lookback` seconds before it, and lacks `cut` seconds more that were asked for.
    It ends at most `duration` seconds after `trigger`.
    """

    trigger: float
    lookback: float = 0.0
    cut: float = 0.0
    duration: float = math.inf

    @property
    def looks_back(self) -> bool:
        """Whether packets from before `trigger` are asked for."""
        return self.lookback + self.cut > 0


def window_of(request: CaptureRequest, most: float, now: float) -> Window:
    """Return the window of a request that is triggered now. `most` is `maxlookback`."""
    end = request.until.timestamp() if request.until else math.inf
    begin = request.since.timestamp() if request.since else now - (request.lookback or 0)
    trigger = min(now, end)
    asked = max(0.0, trigger - begin)
    kept = min(asked, max(0.0, most - (now - trigger)))
    return Window(trigger, kept, asked - kept, end - trigger)


def window_problems(request: CaptureRequest, policy: Policy, now: float) -> list[Problem]:
    """Return what is wrong with `since` and `until` at this moment."""
    since = request.since.timestamp() if request.since else None
    until = request.until.timestamp() if request.until else None
    problems = []
    if since is not None and since - now > LARGEST_CLOCK_ERROR:
        problems.append(
            Problem("since", f"is {since - now:.0f} s in the future by this node's clock")
        )
    if until is None:
        return problems
    if since is not None and until <= since:
        problems.append(Problem("until", "must be later than since"))
    elif until <= now and since is None and not request.lookback:
        problems.append(Problem("until", "lies in the past; give since or lookback too"))
    elif now - until > policy.maxlookback:
        words = f"is {now - until:.0f} s ago; this node looks back {policy.maxlookback} s"
        problems.append(Problem("until", f"{words} ([general] maxlookback)"))
    elif until - now > policy.maxduration:
        words = f"is {until - now:.0f} s ahead; this node captures for {policy.maxduration} s"
        problems.append(Problem("until", f"{words} ([general] maxduration)"))
    return problems
