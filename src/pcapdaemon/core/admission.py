"""Whether a request is too old or exceeds a rate. Pure: the caller passes the time."""

from collections import OrderedDict
from dataclasses import dataclass, field

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.requester import Standing

CLOCK_OFF = 300.0
"""Seconds by which two clocks may differ before the log reports it."""

MOST_CUSTOMERS = 1000
"""Most customers whose rate is tracked. The one seen least recently is forgotten first."""


@dataclass(frozen=True, slots=True)
class Age:
    """The age of a request, and by how much a clock is off, both in seconds.

    `clock_off` is 0 if the difference is at most CLOCK_OFF.
    """

    seconds: float
    clock_off: float = 0.0


def age_of(sent_at: float | None, issued_at: float | None, now: float) -> Age:
    """Return the age by the broker's time or the requester's, whichever is older.

    A time in the future counts as now. All times are seconds since the epoch.
    """
    times = [moment for moment in (sent_at, issued_at) if moment is not None]
    ahead = max(times, default=now) - now
    apart = issued_at - sent_at if sent_at is not None and issued_at is not None else 0.0
    off = ahead if ahead > CLOCK_OFF else apart if abs(apart) > CLOCK_OFF else 0.0
    return Age(max(0.0, now - min(times, default=now)), off)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not obeyed."""

    kind: AnswerKind
    words: str


@dataclass(slots=True)
class _Bucket:
    """A token bucket: it holds at most `rate` requests and is refilled evenly over a minute."""

    left: float
    at: float

    def refill(self, rate: int, now: float) -> None:
        self.left = min(float(rate), self.left + max(0.0, now - self.at) * rate / 60)
        self.at = now


@dataclass
class Tally:
    """Lets at most `most` things of each key pass in a minute, and counts the others."""

    most: int
    _buckets: "OrderedDict[str, _Bucket]" = field(default_factory=OrderedDict)
    _held: dict[str, int] = field(default_factory=dict)

    def passes(self, key: str, now: float) -> int | None:
        """Return how many were held back since the last one that passed, or None to hold it."""
        bucket = _bucket_of(self._buckets, key, self.most, now)
        for gone in self._held.keys() - self._buckets.keys():
            del self._held[gone]
        if bucket.left < 1:
            self._held[key] = self._held.get(key, 0) + 1
            return None
        bucket.left -= 1
        return self._held.pop(key, 0)


@dataclass
class Rates:
    """Counts requests per minute, in total, for each customer and for each requester."""

    _buckets: "OrderedDict[str, _Bucket]" = field(default_factory=OrderedDict)

    def refusal(
        self,
        customer: str | None,
        rate: int,
        customer_rate: int,
        now: float,
        requester: str = "",
        requester_rate: int = 0,
    ) -> str:
        """Count a request and return "", or return which rate it would exceed.

        A refused request does not count. A rate of 0 means no limit.
        """
        sender = (
            _bucket_of(self._buckets, f"requester {requester}", requester_rate, now)
            if requester and requester_rate
            else None
        )
        if sender and sender.left < 1:
            return (
                f"more than {requester_rate} requests a minute from {requester}"
                " ([[requester]] rate)"
            )
        everybody = _bucket_of(self._buckets, "", rate, now)
        one = (
            _bucket_of(self._buckets, f"customer {customer}", customer_rate, now)
            if customer and customer_rate
            else None
        )
        if rate and everybody.left < 1:
            return f"more than {rate} requests a minute ([general] rate)"
        if one and one.left < 1:
            return (
                f"more than {customer_rate} requests a minute from customer {customer}"
                " ([general] customer_rate)"
            )
        for bucket in (everybody, one, sender):
            if bucket:
                bucket.left -= 1
        return ""


MOST_OBEYED = 1000
"""Most orders and dry runs of a requester that are remembered while their signatures are valid.

Further ones are refused: if older ones were forgotten instead, they could be sent again.
"""


@dataclass
class Obeyed:
    """Signed messages that start no capture. They are only remembered until this process ends.

    `began` is when it began to remember them, in seconds since the epoch.
    """

    began: float
    _known: dict[str, "OrderedDict[str, float]"] = field(default_factory=dict)

    def refusal(self, standing: Standing, now: float, within: float) -> Refusal | None:
        """Note a message, or return why it must not be obeyed. What is not signed passes.

        `now` is in seconds of a steady clock, and `within` is for how long a signature is valid.
        """
        if not standing.is_signed:
            return None
        if standing.issued_at < self.began:
            words = "it was signed before this node started; sign it again"
            return Refusal(AnswerKind.UNTRUSTED, words)
        known = self._known.setdefault(standing.requester, OrderedDict())
        while known and now - next(iter(known.values())) > within:
            known.popitem(last=False)
        name = str(standing.fields.get("id"))
        if name in known:
            words = "it was obeyed before, and a signed message is obeyed once; sign it again"
            return Refusal(AnswerKind.CONFLICT, words)
        if len(known) >= MOST_OBEYED:
            words = f"more than {MOST_OBEYED} orders of {standing.requester} within {within:g} s"
            return Refusal(AnswerKind.BUSY, words)
        known[name] = now
        return None


def _bucket_of(buckets: "OrderedDict[str, _Bucket]", name: str, rate: int, now: float) -> _Bucket:
    bucket = buckets.setdefault(name, _Bucket(float(rate), now))
    buckets.move_to_end(name)
    bucket.refill(rate, now)
    while len(buckets) > MOST_CUSTOMERS:
        buckets.popitem(last=False)
    return bucket
