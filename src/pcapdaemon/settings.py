"""The whole configuration as a value, and what follows from it."""

import os
import socket
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.capture.interface import InterfaceSettings, replayed
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.interface import Interface
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.profile import Profiles, fields_of
from pcapdaemon.core.requester import Group, Requester
from pcapdaemon.core.section import Section
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.filewatch import Files
from pcapdaemon.native.interfaces import HostInterfaces
from pcapdaemon.privileges import can_capture
from pcapdaemon.results.callback_settings import CallbackSettings
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.telemetry.output import Syslog
from pcapdaemon.triggers.settings import TriggerSettings
from pcapdaemon.trust.settings import OidcSettings, TrustSettings

T = TypeVar("T")

MOST_READY = 8
"""Interfaces that are kept open without being asked for."""


def state_directory(general: Policy) -> Path | None:
    """Return the directory for what must survive a restart, or None without one."""
    name = general.statedir or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(name) if name else None


@dataclass(frozen=True)
class Settings:
    """The whole configuration, validated.

    `sources` and `destinations` have the sections of those that are turned on, by name. `files` are
    the secrets and certificates that it names.
    """

    general: Policy
    capture: CaptureSettings
    delivery: DeliverySettings
    spool: SpoolSettings
    results: ResultsSettings
    targets: TargetSettings
    console: ConsoleSettings
    syslog: Syslog | None
    interfaces: tuple[InterfaceSettings, ...]
    recorder: tuple[RecorderSettings, ...]
    profile: tuple[Any, ...]
    trigger: tuple[TriggerSettings, ...]
    callback: tuple[CallbackSettings, ...]
    trust: TrustSettings
    oidc: OidcSettings
    audit: AuditSettings
    requester: tuple[Requester, ...]
    group: tuple[Group, ...]
    sources: Mapping[str, Section]
    destinations: Mapping[str, Section]
    warnings: tuple[str, ...] = ()
    files: Files = field(default_factory=dict)

    @property
    def aliases(self) -> dict[str, list[str]]:
        """The interfaces of each alias, in the order of the file."""
        found: dict[str, list[str]] = {}
        for interface in self.interfaces:
            for alias in interface.alias:
                found.setdefault(alias, []).append(interface.name)
        return found

    @property
    def profiles(self) -> Profiles:
        """The fields of each profile."""
        # a profile that is invalid, which is reported, may have no name
        return {one.name: fields_of(one) for one in self.profile if hasattr(one, "name")}

    @property
    def ready(self) -> list[str]:
        """The interfaces that are kept open, see `[[interface]] ready`."""
        recorded = self.recorders if self.general.share_recorder else {}
        able = [one for one in self.interfaces if not one.replay and one.name not in recorded]
        chosen = [one.name for one in able if one.ready]
        chosen += [one.name for one in able if one.ready is None][:MOST_READY]
        return list(dict.fromkeys(chosen))

    @property
    def recorders(self) -> dict[str, RecorderSettings]:
        """The recorder of each interface that has one."""
        return {name: one for one in self.recorder for name in self.recorders_of(one)}

    @property
    def needs_devices(self) -> bool:
        """Whether it captures on more than replayed files."""
        return not self.interfaces or not all(one.replay for one in self.interfaces)

    def shortcomings(self) -> list[str]:
        """Return what this process lacks for it, as warnings."""
        if not self.needs_devices or can_capture():
            return []
        return ["CAP_NET_RAW is missing: nothing can be captured on interfaces"]

    @property
    def recorders_of_pods(self) -> list[RecorderSettings]:
        """The recorders for pods."""
        return [one for one in self.recorder if getattr(one, "pods", ())]

    def recorders_of(self, recorder: RecorderSettings) -> list[str]:
        """Return the interfaces that a recorder is for."""
        return (
            [recorder.interface]
            if recorder.interface
            else self.aliases.get(recorder.alias or "", [])
        )


def named(several: Sequence[T]) -> list[T]:
    """Return those that have a name. One that is invalid, which is reported, may have none."""
    return [one for one in several if hasattr(one, "name")]


def node_name(settings: Settings) -> str:
    """Return the name of this host in requests.

    The default is the kernel's host name, as from Go's os.Hostname, not the name in DNS.
    """
    return settings.general.node or socket.gethostname()


def missing_interfaces(settings: Settings) -> list[str]:
    """Return a problem for each configured interface that this host lacks, unless optional."""
    there = interfaces_of(settings)
    return [
        f"[[interface]] {interface.name}: this host has no such interface; set optional = true to"
        " allow that"
        for interface in settings.interfaces
        if interface.name not in there and not interface.optional
    ]


def refuse_missing(settings: Settings) -> None:
    """Raise ConfigError if a configured interface is missing."""
    if problems := missing_interfaces(settings):
        raise ConfigError(problems, "run 'pcapdaemon interfaces' to list this host's interfaces")


def interfaces_of(settings: Settings, *known: Mapping[str, Interface]) -> Mapping[str, Interface]:
    """Return what can be captured on now: replayed files, and the host's interfaces.

    `known` are some of the latter, which are not looked up.
    """
    maps = replays_of(settings), *known, HostInterfaces()
    return ChainMap(*maps)  # type: ignore[arg-type]  # it is only read


def replays_of(settings: Settings) -> dict[str, Interface]:
    """Return the files that are played as interfaces, by name."""
    return {one.name: replayed(one) for one in settings.interfaces if one.replay}
