"""From what captures took to one savefile: put in one order if there are several, described, compressed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.outcome import Content, Counts, Lookback
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.native.blocks import BlockPool, Blocks
from pcapdaemon.native.merge import join, merge
from pcapdaemon.savefile import annotation
from pcapdaemon.savefile.compression import compressed
from pcapdaemon.savefile.savefile import Savefile

NO_ROOM = "there was no room for older packets ([general] maxpackets, maxbytes, memory)"
LIMITS = (StopReason.PACKETS, StopReason.BYTES, StopReason.MEMORY, StopReason.DURATION, StopReason.IDLE)


@dataclass(slots=True)
class Taken:
    """What one capture took; `header` is that of a pcap file of it, `times` of its first and last packet are nanoseconds.

    `trigger` is when it was asked for, seconds since the epoch, `seconds` how long it ran.
    """

    part: InterfacePlan
    reason: StopReason
    counts: Counts
    times: tuple[int, int]
    seconds: float
    error: str
    header: bytes
    blocks: Blocks
    trigger: float
    lookback: Lookback | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a capture ended; `times` of the first and last packet and `seconds` of its run; the savefile if it has packets.

    `trigger` is when it was asked for, seconds since the epoch; `lookback` what was asked for and had from before that; `content`
    what is inside of the savefile where it is compressed.
    """

    reason: StopReason
    counts: Counts
    times: tuple[float, float]
    seconds: float
    error: str
    savefile: Savefile | None
    trigger: float = 0.0
    lookback: Lookback | None = None
    content: Content | None = None


def pack(plan: CapturePlan, taken: Sequence[Taken], pool: BlockPool) -> Stopped:
    """The savefile of what was taken, and its manifest. Takes long where it is merged or compressed."""
    whole = _merged(plan, taken, pool) if plan.merge else taken[0]
    found = Stopped(
        reason=whole.reason,
        counts=whole.counts,
        times=(whole.times[0] / 1e9, whole.times[1] / 1e9),
        seconds=whole.seconds,
        error=whole.error,
        savefile=None,
        trigger=whole.trigger,
        lookback=whole.lookback,
    )
    if not whole.counts.packets:
        return found
    head, tail = annotation.around(plan, [(one.part, one.header, one.counts) for one in taken], found)
    savefile, content = _file(plan, (head, tail) if plan.pcapng else (whole.header, b""), whole.blocks, pool)
    whole.blocks = Blocks()  # the savefile alone decides how long its memory is held
    counts = replace(whole.counts, size=content.size if content else savefile.size)
    return replace(found, counts=counts, savefile=savefile, content=content)


def _file(plan: CapturePlan, around: tuple[bytes, bytes], blocks: Blocks, pool: BlockPool) -> tuple[Savefile, Content | None]:
    head, tail = around
    if plan.compress != "none":
        try:
            return compressed(plan.compress, head, blocks, tail, pool)
        except MemoryError:  # its name then lacks what the compression would add
            pass
    return Savefile.of(head, blocks, tail), None


def _merged(plan: CapturePlan, taken: Sequence[Taken], pool: BlockPool) -> Taken:
    """All as if it were one capture; the counts of each are then of what is left of it."""
    packets, size = sum(one.counts.packets for one in taken), sum(one.counts.size for one in taken)
    size += annotation.overhead(plan, plan.captures)
    over = max(0, packets - plan.most_packets), max(0, size - plan.most_size)
    first, errors = taken[0], [words for one in taken for words in _what_went_wrong(one)]
    try:
        blocks, left = merge([one.blocks for one in taken], pool, *over)
        for one, kept in zip(taken, left, strict=True):
            one.counts = replace(one.counts, packets=kept)
    except MemoryError:
        blocks = join([one.blocks for one in taken], pool)
        errors.append("there was no memory to put the packets of all interfaces in one order ([general] memory)")
    counts = [one.counts for one in taken]
    begin = _first_time(blocks)
    return Taken(
        part=first.part,
        reason=_reason(taken),
        counts=Counts(*(sum(getattr(one, name) for one in counts) for name in Counts.__slots__)),
        times=(begin, max(one.times[1] for one in taken)),
        seconds=max(one.seconds for one in taken),
        error="; ".join(errors),
        header=first.header,
        blocks=blocks,
        trigger=first.trigger,
        lookback=_lookback(taken, packets - sum(one.packets for one in counts), begin / 1e9),
    )


def _what_went_wrong(one: Taken) -> list[str]:
    words = one.error or ("the interface went down or away" if one.reason is StopReason.INTERFACE_DOWN else "")
    return [f"{one.part.interface.name}: {words}"] if words else []


def _reason(taken: Sequence[Taken]) -> StopReason:
    """A limit that one reached ended the others too."""
    reasons = [one.reason for one in taken]
    return next((reason for reason in (*LIMITS, StopReason.SHUTDOWN, StopReason.STOPPED) if reason in reasons), reasons[0])


def _lookback(taken: Sequence[Taken], given_up: int, begin: float) -> Lookback | None:
    found = [(one.part.interface.name, one.lookback) for one in taken if one.lookback]
    if not found:
        return None
    reasons = [f"{name}: {lookback.reason}" for name, lookback in found if lookback.reason]
    covered = min(lookback.covered for _, lookback in found)
    if given_up:
        covered = max(0.0, min(covered, round(taken[0].trigger - begin, 3)))
    return Lookback(
        asked=found[0][1].asked,
        covered=covered,
        packets=sum(lookback.packets for _, lookback in found) - given_up,
        reason="; ".join(reasons + ([NO_ROOM] if given_up else [])),
    )


def _first_time(blocks: Blocks) -> int:
    """The time in the first Enhanced Packet Block."""
    for view in blocks.views():
        return int.from_bytes(view[12:16], "little") << 32 | int.from_bytes(view[16:20], "little")
    return 0
