"""What each requester used today, in UTC. Pure: the caller passes the clock."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pcapdaemon.core.record import RequestRecord
from pcapdaemon.core.requester import Rights

DAY = 86400
MOST = 10_000
"""Most requests whose requester is known when their captures end. The oldest are forgotten."""


@dataclass(slots=True)
class _Used:
    day: int
    captures: int = 0
    size: int = 0


@dataclass
class Quotas:
    """Counts captures and bytes. `now` returns seconds since the epoch."""

    now: Callable[[], float]
    _used: dict[str, _Used] = field(default_factory=dict)
    _running: "OrderedDict[str, str]" = field(default_factory=OrderedDict)

    def used_up(self, requester: str, rights: Rights, captures: int) -> str:
        """Return which daily quota so many captures would exceed, or ""."""
        used = self._today(requester)
        if rights.daily_captures and used.captures + captures > rights.daily_captures:
            key = f"[[requester]] daily_captures = {rights.daily_captures}"
            return f"{requester} had {used.captures} captures today ({key})"
        if rights.daily_bytes and used.size >= rights.daily_bytes:
            key = f"[[requester]] daily_bytes = {rights.daily_bytes}"
            return f"{requester} had {used.size} bytes today ({key})"
        return ""

    def began(self, request_id: str, requester: str, captures: int) -> None:
        """Count the captures of a request."""
        if requester:
            self._today(requester).captures += captures
            self._running[request_id] = requester
            while len(self._running) > MOST:
                self._running.popitem(last=False)

    def ended(self, request_id: str, size: int) -> None:
        """Count the bytes of a savefile."""
        if requester := self._running.get(request_id):
            self._today(requester).size += size

    def restore(self, record: RequestRecord) -> None:
        """Count a request that an earlier process accepted today."""
        if not record.requester or record.joined or int(record.received_at // DAY) != self._day():
            return
        used = self._today(record.requester)
        used.captures += len(record.captures)
        used.size += sum(one.outcome.size for one in record.captures if one.outcome)

    def _day(self) -> int:
        return int(self.now() // DAY)

    def _today(self, requester: str) -> _Used:
        used = self._used.get(requester)
        if used is None or used.day != self._day():
            used = self._used[requester] = _Used(self._day())
        return used
