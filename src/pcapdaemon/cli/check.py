"""Checks everything that a daemon with this configuration needs, and reports all problems."""

import asyncio
import difflib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from pcapdaemon import __version__, destinations, sources
from pcapdaemon.around import Addressee
from pcapdaemon.capture.merged import try_out
from pcapdaemon.capture.ready import MOST_OF_BUDGET
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.capture.session import Session
from pcapdaemon.capture.source import PACKET_BUFFER_TIMEOUT_MS
from pcapdaemon.cli.directories import audit_finding, spool_finding, state_finding, to_be_made
from pcapdaemon.cli.finding import Finding
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.errors import CaptureRefused, NotASavefile, NotConnected
from pcapdaemon.core.filters import without
from pcapdaemon.core.interface import TargetKind
from pcapdaemon.core.message import UnreadableMessage, read
from pcapdaemon.core.plan import CapturePlan, InterfacePlan, Rejection, make_plan
from pcapdaemon.core.profile import applied
from pcapdaemon.core.request import FIELDS, new_id, unknown_fields, validate
from pcapdaemon.core.target import NOTHING_FOUND, Asked, Found, Refused
from pcapdaemon.core.units import size_in_words
from pcapdaemon.decode.reading import packets
from pcapdaemon.destinations.base import Destination
from pcapdaemon.native.library import library
from pcapdaemon.native.live import LiveCapture
from pcapdaemon.native.memory import BLOCK_SIZE, SMALLEST_KERNEL_BUFFER, MemoryBudget
from pcapdaemon.native.rtnetlink import own_addresses
from pcapdaemon.privileges import can_capture
from pcapdaemon.results.router import WEBHOOK
from pcapdaemon.settings import (
    Settings,
    interfaces_of,
    missing_interfaces,
    node_name,
    state_directory,
)
from pcapdaemon.sources.base import Bus, Source
from pcapdaemon.sources.http import HttpSettings, address_family, why_not_listening
from pcapdaemon.targets.targets import Targets
from pcapdaemon.triggers.alerts import section_of, source_of
from pcapdaemon.triggers.settings import BUSES

CONNECT_WITHIN = 8.0
"""Most seconds to connect to a source."""

CHECKED_WAYS = ("file", *BUSES)
"""Where alerts come from, if trying it can't disturb a daemon that runs."""


async def found(settings: Settings, request: Path | None) -> list[Finding]:
    """Return the results of all checks."""
    return [finding async for finding in check(settings, request)]


async def check(settings: Settings, request: Path | None) -> AsyncIterator[Finding]:
    """Run all checks, and yield each result as soon as it is known.

    `request` is a file with a request to check too. A server that does not respond takes up to
    CONNECT_WITHIN seconds.
    """
    for warning in settings.warnings:
        yield Finding("configuration", True, warning, warns=True)
    yield Finding("program", True, f"pcapdaemon {__version__}, {library()}")
    for finding in (_memory(settings), *_interfaces(settings), *_open_before_requests(settings)):
        yield finding
    if directory := state_directory(settings.general):
        yield state_finding(directory)
    if settings.spool.dir:
        yield spool_finding(settings.spool)
    if settings.audit.file:
        yield audit_finding(Path(settings.audit.file))
    for name, section in settings.sources.items():
        source = sources.load(name)(section, node_name(settings))
        yield _api(section, source) if isinstance(section, HttpSettings) else await _source(source)
    for trigger in settings.trigger:
        if trigger.way in CHECKED_WAYS:
            bus, node = section_of(trigger, settings.sources), node_name(settings)
            yield await _source(source_of(trigger, bus, node, lambda _: False, None))
    async for finding in _results(settings):
        yield finding
    for name, section in settings.destinations.items():
        made = destinations.load(name)(section)
        yield await _destination(name, made, state_directory(settings.general))
    if request:
        for finding in await _request(settings, request):
            yield finding


async def _destination(name: str, destination: Destination, state: Path | None) -> Finding:
    words = to_be_made(destination.directory, state)
    problem = "" if words else await destination.check()
    words = words or f"{destination.address} can be written to"
    return Finding(f"destination {name}", not problem, problem or words)


def _memory(settings: Settings) -> Finding:
    wanted = settings.general.memory
    for one in settings.recorder:
        wanted += one.total if one.pods else one.memory * len(settings.recorders_of(one))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    words = (
        f"{size_in_words(wanted)} for captures and recorders, of {size_in_words(there)} of this"
        " machine"
    )
    hint = "lower [general] memory, or the memory of a [[recorder]]"
    return Finding("memory", wanted < there, words, "" if wanted < there else hint)


def _interfaces(settings: Settings) -> Iterator[Finding]:
    if settings.needs_devices:
        yield _permission()
    for interface in settings.interfaces:
        if interface.replay:
            yield _replay(interface.name, interface.replay)
    for problem in missing_interfaces(settings):
        hint = "run 'pcapdaemon interfaces' to list this host's interfaces"
        yield Finding("interfaces", False, problem, hint)


def _open_before_requests(settings: Settings) -> Iterator[Finding]:
    if settings.ready:
        yield _ready(settings)
    for name, recorder in settings.recorders.items():
        yield _recorder(name, recorder, settings.general.exclude or "")


def _ready(settings: Settings) -> Finding:
    names, size = settings.ready, len(settings.ready) * settings.capture.buffer
    words = f"{', '.join(names)}: kept open, {size} of {settings.general.memory} bytes"
    enough = size <= settings.general.memory // MOST_OF_BUDGET
    hint = "raise [general] memory, lower [capture] buffer, or set ready = false for some"
    return Finding("ready", enough, f"{words} of [general] memory", "" if enough else hint)


def _recorder(name: str, settings: RecorderSettings, exclude: str) -> Finding:
    words = (
        f"records the last {settings.seconds} s in at most {settings.memory} bytes, in addition to"
        " [general] memory"
    )
    capture = LiveCapture(name, MemoryBudget(BLOCK_SIZE).pool)
    try:
        capture.open(
            snaplen=settings.snaplen,
            promiscuous=settings.promiscuous,
            buffer_size=SMALLEST_KERNEL_BUFFER,
            buffer_timeout_ms=PACKET_BUFFER_TIMEOUT_MS,
            loopback=name == "lo",
        )
        capture.set_filter(without(settings.filter, exclude), names=True)
    except CaptureRefused as error:
        waits = error.kind == "interface"
        return Finding(
            f"recorder {name}",
            waits,
            f"{error}{'; it begins when that changes' if waits else ''}",
            error.hint,
            warns=waits,
        )
    finally:
        capture.close()
    return Finding(f"recorder {name}", True, words)


def _replay(name: str, file: str) -> Finding:
    hint = "set [[interface]] replay to a readable pcap or pcapng file"
    try:
        with Path(file).open("rb") as opened:
            next(packets(opened), None)
    except OSError as error:
        return Finding(f"replay {name}", False, f"{file}: {error.strerror}", hint)
    except NotASavefile as error:
        return Finding(f"replay {name}", False, f"{file}: {error}", hint)
    return Finding(f"replay {name}", True, f"{file} can be read")


def _permission() -> Finding:
    if can_capture():
        return Finding("permission", True, "this process has CAP_NET_RAW")
    refusal = CaptureRefused("CAP_NET_RAW is missing: nothing can be captured", "permission")
    return Finding("permission", False, str(refusal), refusal.hint)


def _api(settings: HttpSettings, source: Source) -> Finding:
    """Check that the API can listen on its port, or that a daemon already does."""
    try:
        socket.create_server(
            (settings.host, settings.port), family=address_family(settings.host)
        ).close()
    except OSError as error:
        try:
            if httpx2.get(f"{source.address}/healthz", timeout=2).json() == {"status": "ok"}:
                return Finding("source http", True, f"a daemon already listens on {source.address}")
        except (httpx2.HTTPError, ValueError):
            pass  # another program listens on it
        return Finding(
            "source http",
            False,
            f"{source.address}: {error.strerror}",
            why_not_listening(error),
        )
    return Finding("source http", True, f"{source.address} is free")


async def _source(source: Source) -> Finding:
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            await source.connect()
    except NotConnected as error:
        return Finding(f"source {source.name}", False, str(error))
    except TimeoutError:
        return Finding(
            f"source {source.name}",
            False,
            f"{source.address}: no response within {CONNECT_WITHIN:.0f} s",
        )
    finally:
        await source.close()
    return Finding(f"source {source.name}", True, f"{source.address} is reachable")


async def _results(settings: Settings) -> AsyncIterator[Finding]:
    """Check each place for results: those of the buses, and the webhook."""
    for name, section in settings.sources.items():
        source = sources.load(name)(section, node_name(settings))
        if isinstance(source, Bus):
            for place in source.places:
                yield await _place(f"results {name} {place}", source.check(place))
    if settings.results.webhook:
        from pcapdaemon.results.webhook import Webhook

        webhook = Webhook(settings.results, settings.results.webhook)
        yield await _place("results webhook", webhook.check())
        await webhook.close()


async def _place(subject: str, check: Awaitable[str]) -> Finding:
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            problem = await check
    except NotConnected as error:
        problem = str(error)
    except TimeoutError:
        problem = f"no response within {CONNECT_WITHIN:.0f} s"
    return Finding(subject, not problem, problem or "results can be sent there")


async def _request(settings: Settings, path: Path) -> list[Finding]:
    try:
        fields, unknown = applied(read(_contents(path)), settings.profiles)
    except OSError as error:
        return [Finding("request", False, f"{path}: {error.strerror}")]
    except UnreadableMessage as error:
        return [Finding("request", False, f"{path}: {error}")]
    request, problems = validate(fields)
    problems = unknown + problems
    for name, section in settings.destinations.items():
        problems = problems + destinations.load(name)(section).objections(request)
    around = Surroundings(
        node_name(settings),
        time.time(),
        interfaces_of(settings),
        settings.aliases,
        _places(settings),
        targets=await _targets(settings, request.targets),
    )
    plan = make_plan(request.id or new_id(), request, problems, settings.general, around)
    if isinstance(plan, Rejection):
        return [Finding("request", False, f"{path}: {problem}") for problem in plan.problems]
    found = [*_remarks(settings, path, dict(fields))]
    found += [
        Finding("request", False, f"{path}: {name}: {reason}") for name, reason in plan.unavailable
    ]
    return found + [await _filter(settings, plan, part) for part in plan.captures]


def _remarks(settings: Settings, path: Path, fields: dict[str, Any]) -> Iterator[Finding]:
    for name in unknown_fields(fields):
        near = difflib.get_close_matches(name, FIELDS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        yield Finding("request", True, f"{path}: unknown field {name}{meant}", warns=True)
    addressee = Addressee(own_addresses)
    addressee.node, addressee.labels = node_name(settings), settings.general.labels
    if not addressee.means(fields):
        words = f"{path}: is for other nodes than {addressee.node}, which would skip it"
        yield Finding("request", True, words, warns=True)


async def _targets(settings: Settings, asked: Asked | None) -> Found:
    if asked is None:
        return NOTHING_FOUND
    found = await Targets(settings.targets).find(asked)
    if found.elsewhere or found.starting:
        field, words = asked.not_here
        return Found(refused=(Refused(TargetKind(field), "request", words),))
    return found


def _places(settings: Settings) -> frozenset[str]:
    made = (sources.load(name)(section, "check") for name, section in settings.sources.items())
    names = {place for source in made if isinstance(source, Bus) for place in source.places}
    return frozenset(names | ({WEBHOOK[1]} if settings.results.webhook else set()))


def _contents(path: Path) -> bytes:
    return path.read_bytes()


async def _filter(settings: Settings, plan: CapturePlan, part: InterfacePlan) -> Finding:
    session = Session(plan, part, MemoryBudget(settings.general.memory), settings.capture)
    name = part.interface.name
    if error := await try_out(session):
        return Finding("request", False, f"{name}: {error}", error.hint)
    limits = json.dumps(
        {
            "packets": plan.limits.packets,
            "bytes": plan.limits.size,
            "duration": plan.limits.duration,
        }
    )
    words = f"{name}: would be captured to {part.file_name}, limits {limits}"
    return Finding("request", True, words)
