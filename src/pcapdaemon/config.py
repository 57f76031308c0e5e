"""The configuration in three steps.

Read (TOML, names in any case), default (flags over the file), validate.

A source's or destination's section is described and checked by that one's own file; it is loaded
only if switched on.
"""

import difflib
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pcapdaemon import destinations, sources
from pcapdaemon.capture.interface import InterfaceSettings, replayed
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.core.errors import ConfigError, PcapdaemonError
from pcapdaemon.core.interface import Interface
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.section import Section
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.native.interfaces import list_interfaces
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.secrets import resolve_secrets
from pcapdaemon.sources.base import Bus
from pcapdaemon.telemetry.log import Syslog

S = TypeVar("S", bound=BaseModel)


def state_directory(general: Policy) -> Path | None:
    """Where what must survive a restart is kept; None: nowhere."""
    name = general.statedir or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(name) if name else None


@dataclass(frozen=True)
class Settings:
    """The whole, valid configuration.

    `sources` and `destinations` hold those that are on, by name.
    """

    general: Policy
    capture: CaptureSettings
    delivery: DeliverySettings
    spool: SpoolSettings
    results: ResultsSettings
    syslog: Syslog | None
    interfaces: tuple[InterfaceSettings, ...]
    recorder: tuple[RecorderSettings, ...]
    sources: Mapping[str, Section]
    destinations: Mapping[str, Section]
    warnings: tuple[str, ...] = ()

    @property
    def aliases(self) -> dict[str, list[str]]:
        """Aliases with their interfaces, in the order of the file."""
        found: dict[str, list[str]] = {}
        for interface in self.interfaces:
            for alias in interface.alias:
                found.setdefault(alias, []).append(interface.name)
        return found

    @property
    def recorders(self) -> dict[str, RecorderSettings]:
        """The recorders by interface."""
        return {name: one for one in self.recorder for name in self.recorders_of(one)}

    def recorders_of(self, recorder: RecorderSettings) -> list[str]:
        """The interfaces that one of them is for."""
        return (
            [recorder.interface]
            if recorder.interface
            else self.aliases.get(recorder.alias or "", [])
        )


def node_name(settings: Settings) -> str:
    """The name that requests call this host by.

    By default the kernel's, as Go's os.Hostname has it, not the DNS's.
    """
    return settings.general.node or socket.gethostname()


def missing_interfaces(settings: Settings) -> list[str]:
    """A problem for each configured interface that this host lacks and that is not optional."""
    there = interfaces_of(settings)
    return [
        f"[[interface]] {interface.name}: this host has no such interface (optional = true allows"
        " that)"
        for interface in settings.interfaces
        if interface.name not in there and not interface.optional
    ]


def interfaces_of(settings: Settings) -> dict[str, Interface]:
    """What can be captured on at this moment.

    The host's interfaces, and files that are played as such.
    """
    return {
        **list_interfaces(),
        **{one.name: replayed(one) for one in settings.interfaces if one.replay},
    }


EMBEDDED: dict[str, Any] = {
    "http": {"listen": True},
    "general": {"writelocal": True, "localdir": "./captures"},
}
"""What is meant where neither a configuration nor a flag is given."""


def read(path: Path) -> dict[str, Any]:
    """The file's tables with names in lower case, as the original took them in any.

    Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            values: dict[str, Any] = _lower(tomllib.load(file), str(path))
            return values
    except OSError as error:
        raise ConfigError(
            [f"{path}: {error.strerror}"], "name an existing file by --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from None


def merge(values: Mapping[str, Any], flags: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The file's values with those of the command line laid over them."""
    merged = {
        name: dict(table) if isinstance(table, dict) else table for name, table in values.items()
    }
    for name, table in flags.items():
        merged[name] = {**merged.get(name, {}), **table}
    return merged


def validate(values: Mapping[str, Any], origin: str = "configuration") -> Settings:
    """Settings from tables.

    Raises ConfigError with every problem, each with the origin's name and the key.
    """
    reader = _Reader(values, origin)
    settings = Settings(
        general=reader.section("general", Policy),
        capture=reader.section("capture", CaptureSettings),
        delivery=reader.section("delivery", DeliverySettings),
        spool=reader.section("spool", SpoolSettings),
        results=reader.section("results", ResultsSettings),
        syslog=reader.section("syslog", Syslog) if "syslog" in values else None,
        interfaces=reader.tables("interface", InterfaceSettings),
        recorder=reader.tables("recorder", RecorderSettings),
        sources=reader.plugins(sources.TABLE, sources.load),
        destinations=reader.plugins(destinations.TABLE, destinations.load),
    )
    reader.whole(settings)
    warnings = tuple(dict.fromkeys(reader.warnings))  # two sources may share a section
    if reader.problems:
        raise ConfigError(list(dict.fromkeys(reader.problems)), "; ".join(warnings))
    return Settings(**{**vars(settings), "warnings": warnings})


def section(name: str, model: type[S], values: Mapping[str, Any], origin: str) -> S:
    """One section alone, whatever is wrong with the others; raises ConfigError."""
    reader = _Reader({}, origin)
    found = reader._section(f"[{name}]", values.get(name, {}), model)
    if reader.problems:
        raise ConfigError(reader.problems)
    return found


def bus(name: str, values: Mapping[str, Any], origin: str) -> Bus:
    """A bus to send on, as its section says, whatever else the configuration lacks.

    Raises ConfigError.
    """
    switched_on = {**values.get(name, {}), "listen": True}
    source = next(
        n for n, p in sources.TABLE.items() if p.section == name and p.is_meant(switched_on)
    )
    try:
        cls = sources.load(source)
    except PcapdaemonError as error:
        raise ConfigError([f"{origin}: [{name}]: {error}"], error.hint) from None
    made = cls(section(name, cls.Settings, {name: switched_on}, origin), f"requester-{os.getpid()}")
    if not isinstance(made, Bus):
        raise ConfigError([f"{origin}: nothing can be sent over {name}"])
    return made


class _Reader:
    """Collects problems and warnings while tables become sections."""

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        self.values, self.origin = values, origin
        self.problems: list[str] = []
        self.warnings: list[str] = []
        known = {
            "general",
            "capture",
            "delivery",
            "spool",
            "results",
            "syslog",
            "interface",
            "recorder",
        }
        known |= {
            plugin.section for plugin in (*sources.TABLE.values(), *destinations.TABLE.values())
        }
        self._warn_unknown("", values, known)

    def section(self, name: str, model: type[S]) -> S:
        return self._section(f"[{name}]", self.values.get(name, {}), model)

    def tables(self, name: str, model: type[S]) -> tuple[S, ...]:
        tables = self.values.get(name, [])
        if not isinstance(tables, list):
            self.problems.append(f"{self.origin}: [{name}]: write [[{name}]], one for each {name}")
            return ()
        return tuple(
            self._section(f"[[{name}]] number {n}", t, model) for n, t in enumerate(tables, 1)
        )

    def plugins(self, table: Mapping[str, Any], load: Any) -> dict[str, Section]:
        found = {}
        for name, plugin in table.items():
            values = self.values.get(plugin.section, {})
            if not isinstance(values, dict) or not self._switch(
                plugin.section, plugin.switch, values
            ):
                continue
            if not plugin.is_meant(values):
                continue
            try:
                found[name] = self._section(
                    f"[{plugin.section}]", values, load(name).Settings, plugin.section != "general"
                )
            except PcapdaemonError as error:
                found[name] = Section()  # it is on, though it can't be loaded
                self.problems.append(
                    f"{self.origin}: [{plugin.section}] {plugin.switch}: {error} ({error.hint})"
                )
        return found

    def whole(self, settings: Settings) -> None:
        self._recorders(settings)
        self.warnings += [
            f"{self.origin}: {words}"
            for one in settings.destinations.values()
            for words in one.flaws()
        ]
        repeating = {
            n for n, section in settings.sources.items() if sources.load(n).redelivers(section)
        }
        if repeating and state_directory(settings.general) is None:
            names = " and ".join(sorted(repeating))
            words = (
                f"{names} may hand out a request again after a restart, which would be captured"
                " again: set [general] statedir"
            )
            self.warnings.append(f"{self.origin}: {words}")
        if not settings.sources:
            keys = " or ".join(
                dict.fromkeys(
                    f"[{p.section}] {p.switch} = true" for p in sources.TABLE.values() if p.section
                )
            )
            self.problems.append(
                f"{self.origin}: no source is on, so no request would ever be received: set {keys}"
            )
        if not settings.destinations:
            keys = " or ".join(
                f"[{p.section}] {p.switch} = true" for p in destinations.TABLE.values() if p.section
            )
            self.problems.append(
                f"{self.origin}: no destination is on, so no savefile would be kept: set {keys}"
            )

    def _recorders(self, settings: Settings) -> None:
        seen: set[str] = set()
        for n, recorder in enumerate(settings.recorder, 1):
            label = f"{self.origin}: [[recorder]] number {n}"
            if recorder.alias and recorder.alias not in settings.aliases:
                self.problems.append(
                    f"{label} alias: no [[interface]] has the alias {recorder.alias}"
                )
            names = set(settings.recorders_of(recorder))
            played = names & {one.name for one in settings.interfaces if one.replay}
            self.problems += [
                f"{label}: {name} plays a file, which has no recorder" for name in sorted(played)
            ]
            self.problems += [
                f"{label}: {name} has a recorder already" for name in sorted(names & seen)
            ]
            seen |= names

    def _switch(self, section: str, key: str, values: Mapping[str, Any]) -> bool:
        value = values.get(key, False)
        if not isinstance(value, bool):
            self.problems.append(f"{self.origin}: [{section}] {key}: must be true or false")
        if values and key not in values and section != "general":
            self.warnings.append(
                f"{self.origin}: [{section}] is there but not switched on: set {key} = true"
            )
        return value is True

    def _section(self, label: str, values: Any, model: type[S], warn: bool = True) -> S:
        if not isinstance(values, dict):
            self.problems.append(f"{self.origin}: {label} must be a table")
            return model.model_construct()
        resolved, problems = resolve_secrets(model, values)
        self.problems += [f"{self.origin}: {label} {problem}" for problem in problems]
        if warn:
            self._warn_unknown(label, resolved, {*model.model_fields, *self._plugin_keys(label)})
        try:
            return model.model_validate(resolved)
        except ValidationError as error:
            self.problems += [
                _words(self.origin, label, e)
                for e in error.errors(include_url=False, include_input=False)
            ]
            return model.model_construct()

    def _plugin_keys(self, label: str) -> set[str]:
        # The local directory is configured in [general], as the original has it
        shared = [
            name for name, plugin in destinations.TABLE.items() if f"[{plugin.section}]" == label
        ]
        return {key for name in shared for key in destinations.load(name).Settings.model_fields}

    def _warn_unknown(self, label: str, values: Mapping[str, Any], known: set[str]) -> None:
        for name in values.keys() - known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            what = f"{label} {name}" if label else f"[{name}]"
            self.warnings.append(f"{self.origin}: {what} is unknown{meant}")


def _words(origin: str, label: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    return f"{origin}: {label} {key}: {error['msg']}".replace(" : ", ": ").replace(
        "Value error, ", ""
    )


def _lower(values: Any, where: str) -> Any:
    if isinstance(values, list):
        return [_lower(value, where) for value in values]
    if not isinstance(values, dict):
        return values
    lowered: dict[str, Any] = {}
    for name, value in values.items():
        if name.lower() in lowered:
            raise ConfigError([f"{where}: {name} is there twice, in different case"])
        lowered[name.lower()] = _lower(value, where)
    return lowered
