"""Makes one savefile of what captures took.

Packets of several captures are put in time order. The file is annotated and compressed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pcapdaemon.core.errors import Busy
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.outcome import Content, Counts, Lookback, Outcome
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.core.recipient import recipient
from pcapdaemon.native.blocks import BlockPool, Blocks
from pcapdaemon.native.merge import join, merge
from pcapdaemon.savefile import annotation
from pcapdaemon.savefile.compression import compressed
from pcapdaemon.savefile.savefile import Savefile

NO_ROOM = "older packets did not fit ([general] maxpackets, maxbytes, memory)"
NO_MEMORY = "no memory is left to encrypt the savefile ([general] memory), so it is not kept"
LIMITS = (
    StopReason.PACKETS,
    StopReason.BYTES,
    StopReason.MEMORY,
    StopReason.DURATION,
    StopReason.IDLE,
)


@dataclass(slots=True)
class Taken:
    """What one capture took: its outcome and its records.

    `header` is the header of a pcap file with these records.
    """

    part: InterfacePlan
    outcome: Outcome
    header: bytes
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Captured:
    """The end of a capture, and its savefile if it has packets."""

    outcome: Outcome
    savefile: Savefile | None = None


def pack(plan: CapturePlan, taken: Sequence[Taken], pool: BlockPool) -> Captured:
    """Make one savefile of what was taken. Merging and compressing take long."""
    whole = _merged(plan, taken, pool) if plan.merge else taken[0]
    outcome = whole.outcome
    if not outcome.packets:
        return Captured(outcome)
    head, tail = annotation.around(
        plan, [(one.part, one.header, one.outcome) for one in taken], outcome
    )
    streamed = not whole.blocks.size
    savefile, content = _file(
        plan, (head, tail) if plan.pcapng else (whole.header, b""), whole.blocks, pool
    )
    size = outcome.size if streamed else content.size if content else savefile.size
    whole.blocks = Blocks()  # only the savefile decides how long its memory is held
    return Captured(replace(outcome, size=size, content=content), savefile)


def _file(
    plan: CapturePlan, around: tuple[bytes, bytes], blocks: Blocks, pool: BlockPool
) -> tuple[Savefile, Content | None]:
    head, tail = around
    recipients = [*map(recipient, plan.encrypt_to)]
    if plan.compress != "none" or recipients:
        try:
            # of an encrypted savefile, others should not have a digest of what it contains
            with_digest = plan.sha256 or not recipients
            return compressed(plan.compress, head, blocks, tail, pool, recipients, with_digest)
        except MemoryError:  # its name then lacks the suffix of the compression
            if recipients:
                raise Busy(NO_MEMORY) from None
    return Savefile.of(head, blocks, tail), None


def _merged(plan: CapturePlan, taken: Sequence[Taken], pool: BlockPool) -> Taken:
    """Merge the captures into one. The packets of each are then counted as what is left of it."""
    before = sum((_counts(one.outcome) for one in taken), Counts())
    size = before.size + annotation.overhead(plan, plan.captures)
    over = max(0, before.packets - plan.most_packets), max(0, size - plan.most_size)
    errors = [words for one in taken for words in _what_went_wrong(one)]
    try:
        blocks, left = merge([one.blocks for one in taken], pool, *over)
        for one, kept in zip(taken, left, strict=True):
            one.outcome = replace(one.outcome, packets=kept)
    except MemoryError:
        blocks = join([one.blocks for one in taken], pool)
        errors.append(
            "not enough memory to put the packets of all interfaces in time order ([general]"
            " memory)"
        )
    first, outcomes = taken[0], [one.outcome for one in taken]
    counts, begin = sum(map(_counts, outcomes), Counts()), _first_time(blocks)
    outcome = Outcome(
        **asdict(counts),
        stop_reason=_reason(outcomes),
        seconds=max(one.seconds for one in outcomes),
        trigger=first.outcome.trigger,
        first_packet_at=begin,
        last_packet_at=max(
            (one.last_packet_at for one in outcomes if one.last_packet_at), default=None
        ),
        lookback=_lookback(taken, before.packets - counts.packets, begin),
        down=max(one.down for one in outcomes),
        filtered_in=max(one.filtered_in for one in outcomes),  # "process" if one of them says so
        error="; ".join(errors),
        target=plan.whole.target,
        one_sided=any(one.one_sided for one in outcomes),
    )
    return Taken(first.part, outcome, first.header, blocks)


def _counts(outcome: Outcome) -> Counts:
    return Counts(*(getattr(outcome, name) for name in Counts.__slots__))


def _what_went_wrong(one: Taken) -> list[str]:
    down = one.outcome.stop_reason is StopReason.INTERFACE_DOWN
    words = one.outcome.error or ("the interface went down or away" if down else "")
    return [f"{one.part.interface.name}: {words}"] if words else []


def _reason(outcomes: Sequence[Outcome]) -> StopReason:
    """Return the reason for all: a limit that one capture reached ended the others too."""
    reasons = [one.stop_reason for one in outcomes]
    return next(
        (
            reason
            for reason in (*LIMITS, StopReason.SHUTDOWN, StopReason.STOPPED)
            if reason in reasons
        ),
        reasons[0],
    )


def _lookback(taken: Sequence[Taken], evicted: int, begin: float | None) -> Lookback | None:
    found = [
        (one.part.interface.name, one.outcome.lookback) for one in taken if one.outcome.lookback
    ]
    if not found:
        return None
    reasons = [f"{name}: {lookback.reason}" for name, lookback in found if lookback.reason]
    covered = min(lookback.covered for _, lookback in found)
    if evicted and begin is not None:
        covered = max(0.0, min(covered, round(taken[0].outcome.trigger - begin, 3)))
    return Lookback(
        asked=found[0][1].asked,
        covered=covered,
        packets=sum(lookback.packets for _, lookback in found) - evicted,
        reason="; ".join(reasons + ([NO_ROOM] if evicted else [])),
    )


def _first_time(blocks: Blocks) -> float | None:
    """Return the time in the first Enhanced Packet Block, in seconds since the epoch."""
    for view in blocks.views():
        return (
            int.from_bytes(view[12:16], "little") << 32 | int.from_bytes(view[16:20], "little")
        ) / 1e9
    return None
