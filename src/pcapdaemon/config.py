"""The configuration, in three steps: read, merge, validate.

`read` parses TOML with names in any case. `merge` puts the flags of the command line over the file.
`validate` checks everything.

The module of a source or destination describes and checks its own section. It is loaded only if it
is turned on.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pcapdaemon import destinations, sources
from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.capture.interface import InterfaceSettings
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.errors import ConfigError, PcapdaemonError
from pcapdaemon.core.filters import is_balanced
from pcapdaemon.core.plan import policy_problems
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.profile import ALIASES, INTERFACES, Profile, fields_of
from pcapdaemon.core.request import validate as validate_request
from pcapdaemon.core.requester import Group, Requester
from pcapdaemon.core.section import Section, in_words, secret_names
from pcapdaemon.core.text import shortened
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.filewatch import Identity, files_in, identity
from pcapdaemon.native.live import refusal_of
from pcapdaemon.results.callback_settings import CallbackSettings
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.secrets import resolve_secrets
from pcapdaemon.settings import Settings, named, state_directory
from pcapdaemon.sources.base import Bus
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.telemetry.output import Syslog
from pcapdaemon.triggers import checking
from pcapdaemon.triggers.settings import TriggerSettings
from pcapdaemon.trust import checking as trust_checking
from pcapdaemon.trust.settings import OidcSettings, TrustSettings

S = TypeVar("S", bound=BaseModel)


def validate(values: Mapping[str, Any], origin: str = "configuration") -> Settings:
    """Turn tables into settings.

    Raises ConfigError with all problems. Each names `origin`, usually the file, and the key.
    """
    reader = _Reader(values, origin)
    settings = Settings(
        general=reader.section("general", Policy),
        capture=reader.section("capture", CaptureSettings),
        delivery=reader.section("delivery", DeliverySettings),
        spool=reader.section("spool", SpoolSettings),
        results=reader.section("results", ResultsSettings),
        targets=reader.section("targets", TargetSettings),
        console=reader.section("console", ConsoleSettings),
        syslog=reader.section("syslog", Syslog) if "syslog" in values else None,
        interfaces=reader.tables("interface", InterfaceSettings),
        recorder=reader.tables("recorder", RecorderSettings),
        profile=reader.tables("profile", Profile),
        trigger=reader.tables("trigger", TriggerSettings),
        callback=reader.tables("callback", CallbackSettings),
        trust=reader.section("trust", TrustSettings),
        oidc=reader.section("oidc", OidcSettings),
        audit=reader.section("audit", AuditSettings),
        requester=reader.tables("requester", Requester),
        group=reader.tables("group", Group),
        sources=reader.plugins(sources.TABLE, sources.load),
        destinations=reader.plugins(destinations.TABLE, destinations.load),
    )
    reader.whole(settings)
    warnings = tuple(dict.fromkeys(reader.warnings))  # two sources may share a section
    if reader.problems:
        raise ConfigError(list(dict.fromkeys(reader.problems)), "; ".join(warnings))
    found = {**vars(settings), "warnings": warnings, "files": reader.files}
    return Settings(**found | {"general": _with_exclude(settings)})


def _with_exclude(settings: Settings) -> Policy:
    """Return `[general]` with the default of `exclude`: requests to the API contain its token."""
    http = settings.sources.get("http")
    if settings.general.exclude is not None or not getattr(http, "token", None):
        return settings.general
    port = getattr(http, "port", 0)
    return settings.general.model_copy(update={"exclude": f"tcp port {port}"})


def section(name: str, model: type[S], values: Mapping[str, Any], origin: str) -> S:
    """Return one section and ignore problems in the others; raises ConfigError."""
    reader = _Reader({}, origin)
    found = reader._section(f"[{name}]", values.get(name, {}), model)
    if reader.problems:
        raise ConfigError(reader.problems)
    return found


def bus(name: str, values: Mapping[str, Any], origin: str) -> Bus:
    """Return a bus to send on, made from its section, and ignore problems in the others.

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
        raise ConfigError([f"{origin}: requests can't be sent over {name}"])
    return made


class _Reader:
    """Collects problems and warnings while tables become sections."""

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        self.values, self.origin = values, origin
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.files: dict[str, dict[str, Identity]] = {}
        known = set("general capture delivery spool results targets console syslog".split())
        known |= {"trust", "oidc", "audit", "requester", "group"}
        known |= {"interface", "recorder", "profile", "trigger", "callback"}
        known |= {
            plugin.section for plugin in (*sources.TABLE.values(), *destinations.TABLE.values())
        }
        self._warn_unknown("", values, known)

    def section(self, name: str, model: type[S]) -> S:
        if (values := self.values.get(name)) is None:
            return model.model_construct()  # without what checks values, which takes memory
        return self._section(f"[{name}]", values, model)

    def tables(self, name: str, model: type[S]) -> tuple[S, ...]:
        tables = self.values.get(name, [])
        if not isinstance(tables, list):
            self.problems.append(f"{self.origin}: [{name}]: write [[{name}]] for each {name}")
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
                found[name] = Section()  # turned on, though it can't be loaded
                self.problems.append(
                    f"{self.origin}: [{plugin.section}] {plugin.switch}: {error} ({error.hint})"
                )
        return found

    def whole(self, settings: Settings) -> None:
        self._recorders(settings)
        sections = (*settings.sources.values(), *settings.destinations.values())
        for one in (settings.results, settings.oidc, *sections, *named(settings.callback)):
            self.warnings += [f"{self.origin}: {words}" for words in one.flaws()]
        self._results(settings)
        self._profiles(settings)
        self._twice("profile", settings.profile)
        self._twice("callback", settings.callback)
        self._triggers(settings)
        self._exclude(settings.general.exclude or "")
        self._requesters(settings)
        repeating = {
            n for n, section in settings.sources.items() if sources.load(n).redelivers(section)
        }
        if repeating and state_directory(settings.general) is None:
            names = " and ".join(sorted(repeating))
            words = (
                f"{names} may redeliver a request after a restart, and it would be captured again;"
                " set [general] statedir"
            )
            self.warnings.append(f"{self.origin}: {words}")
        if not settings.sources and not self.problems:
            keys = " or ".join(
                dict.fromkeys(
                    f"[{p.section}] {p.switch} = true" for p in sources.TABLE.values() if p.section
                )
            )
            self.problems.append(
                f"{self.origin}: no source is turned on, so no request can be received; set {keys}"
            )
        if not settings.destinations:
            keys = " or ".join(
                f"[{p.section}] {p.switch} = true" for p in destinations.TABLE.values() if p.section
            )
            self.problems.append(
                f"{self.origin}: no destination is turned on, so no savefile can be kept; set"
                f" {keys}"
            )

    def _results(self, settings: Settings) -> None:
        """Refuse places for results from which requests come: results would be heard again."""
        for name, one in settings.sources.items():
            places = {*_each(getattr(one, "results", None))}
            self.problems += [
                f"{self.origin}: [{sources.TABLE[name].section}] results: requests come from"
                f" {place} too; choose another place"
                for place in sorted(places & set(_heard(one)))
            ]

    def _profiles(self, settings: Settings) -> None:
        for n, profile in enumerate(settings.profile, 1):
            label = f"{self.origin}: [[profile]] number {n}"
            fields = {"node": "any", **fields_of(profile)}
            if not fields.keys() & {INTERFACES, ALIASES}:
                fields[INTERFACES] = ("any",)  # a request says which
            request, wrong = validate_request(fields)
            wrong += policy_problems(request, settings.general)
            self.problems += [f"{label} {one}" for one in wrong]
            self.problems += [
                f"{label} destinations: {name} is not turned on"
                for name in request.destinations
                if name not in settings.destinations
            ]

    def _twice(self, kind: str, given: Sequence[Any]) -> None:
        names = [getattr(one, "name", "") for one in given]  # missing if it is invalid
        self.problems += [
            f"{self.origin}: [[{kind}]] number {n}: there is another {kind} {name}"
            for n, name in enumerate(names, 1)
            if name and name in names[: n - 1]
        ]

    def _triggers(self, settings: Settings) -> None:
        general = settings.general
        used = _places_of_buses(settings)
        places = {
            one
            for section in settings.sources.values()
            for one in _each(getattr(section, "results", None))
        }
        places |= {"webhook"} if settings.results.webhook else set()
        around = checking.Around(
            general, settings.profiles, settings.aliases, used, settings.destinations, places
        )
        wrong = checking.problems(settings.trigger, around)
        self.problems += [f"{self.origin}: {words}" for words in wrong]
        kept = state_directory(general) is not None
        recorded = settings.recorders.keys()
        named = {n for n, members in settings.aliases.items() if recorded & set(members)}
        flaws = checking.flaws(settings.trigger, general, kept, {*recorded, *named})
        self.warnings += [f"{self.origin}: {words}" for words in flaws]

    def _requesters(self, settings: Settings) -> None:
        requesters, groups = named(settings.requester), named(settings.group)
        found = trust_checking.problems(
            settings.general, settings.trust, requesters, groups, settings.destinations
        )
        self.problems += [
            f"{self.origin}: {words}"
            for words in (
                *trust_checking.open_door(settings.sources.get("http"), requesters),
                *trust_checking.of_oidc(settings.oidc.issuer),
                *trust_checking.of_results(settings.results.key_file, settings.results.node_keys),
            )
        ]
        self.problems += [f"{self.origin}: {words}" for words in found]
        self._audit(settings)
        if not self.problems:
            flaws = trust_checking.flaws(settings.general, requesters)
            self.warnings += [f"{self.origin}: {words}" for words in flaws]

    def _audit(self, settings: Settings) -> None:
        bus, place = settings.audit.bus, settings.audit.place
        used = _places_of_buses(settings)
        if bus and bus not in used:
            self.problems.append(f"{self.origin}: [audit] bus: [{bus}] is not turned on")
        elif bus and place in used[bus]:
            words = f"{place} is used for requests or results too; choose another place"
            self.problems.append(f"{self.origin}: [audit] place: {words}")

    def _exclude(self, expression: str) -> None:
        wrong = "" if is_balanced(expression) else "a parenthesis is not closed or not opened"
        if wrong := wrong or refusal_of(expression):
            self.problems.append(f"{self.origin}: [general] exclude: {wrong}")

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
                f"{label}: {name} replays a file, and can't have a recorder"
                for name in sorted(played)
            ]
            self.problems += [
                f"{label}: {name} already has a recorder" for name in sorted(names & seen)
            ]
            seen |= names

    def _switch(self, section: str, key: str, values: Mapping[str, Any]) -> bool:
        value = values.get(key, False)
        if not isinstance(value, bool):
            words = f"must be true or false, not {value!r}"
            self.problems.append(f"{self.origin}: [{section}] {key}: {words}")
        if values and key not in values and section != "general":
            near = dict.fromkeys(get_close_matches(key, values))
            self._warn_unknown(f"[{section}]", near, {key})
            self.warnings.append(f"{self.origin}: [{section}] is not turned on; set {key} = true")
        return value is True

    def _section(self, label: str, values: Any, model: type[S], warn: bool = True) -> S:
        if not isinstance(values, dict):
            self.problems.append(f"{self.origin}: {label} must be a table")
            return model.model_construct()
        self.files.setdefault(label.strip("[]"), {}).update(
            {file: identity(file) for file in files_in(values)}
        )
        resolved, problems = resolve_secrets(model, values)
        self.problems += [f"{self.origin}: {label} {problem}" for problem in problems]
        if warn:
            self._warn_unknown(label, resolved, {*model.model_fields, *self._plugin_keys(label)})
        try:
            made = model.model_validate(resolved)
        except ValidationError as error:
            self.problems += [
                _words(self.origin, label, e, secret_names(model))
                for e in error.errors(include_url=False)
            ]
            return model.model_construct()
        if isinstance(made, Section):
            self.files[label.strip("[]")] |= {file: identity(file) for file in made.files()}
        return made

    def _plugin_keys(self, label: str) -> set[str]:
        # the local directory is configured in [general], as in the original
        shared = [
            name for name, plugin in destinations.TABLE.items() if f"[{plugin.section}]" == label
        ]
        return {key for name in shared for key in destinations.load(name).Settings.model_fields}

    def _warn_unknown(self, label: str, values: Mapping[str, Any], known: set[str]) -> None:
        for name in values.keys() - known:
            near = get_close_matches(name, known, 1)
            if label:
                meant = f"; did you mean {near[0]}?" if near else ""
                self.warnings.append(f"{self.origin}: {label}: unknown key {name}{meant}")
            else:
                meant = f"; did you mean [{near[0]}]?" if near else ""
                self.warnings.append(f"{self.origin}: unknown section [{name}]{meant}")


def _heard(bus: Section) -> Iterator[str]:
    """Yield the channels, topics or queues that a bus receives requests from."""
    for key in ("channel", "stream", "topic", "url", "queue"):
        yield from _each(getattr(bus, key, None))


def _places_of_buses(settings: Settings) -> dict[str, set[str]]:
    """Return what each section of a bus uses: where requests come from, and where results go."""
    used: dict[str, set[str]] = {}
    for name, section in settings.sources.items():
        results = _each(getattr(section, "results", None))
        used.setdefault(sources.TABLE[name].section, set()).update(_heard(section), results)
    return used


def _each(value: Any) -> Sequence[str]:
    # the URL of Redis is a secret, and no place
    several = value if isinstance(value, tuple) else ()
    return (value,) if isinstance(value, str) else several


def _words(origin: str, label: str, error: Any, secrets: Sequence[str]) -> str:
    path = [str(part) for part in error["loc"]]
    words = f"{origin}: {label} {'.'.join(path)}: {in_words(error)}".replace(" : ", ": ")
    value = error["input"]
    if not path or set(path) & set(secrets) or not isinstance(value, str | int | float):
        return words
    return f"{words} (it is {shortened(json.dumps(value, ensure_ascii=False), 100)})"
