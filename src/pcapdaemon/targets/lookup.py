"""Looks up the targets of a request on this node: one look, which blocks for some milliseconds."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pcapdaemon.core.interface import Interface, InterfaceKind, Target, TargetKind
from pcapdaemon.core.target import Asked, Found, Refused, is_pid, matches
from pcapdaemon.native.interfaces import PSEUDO
from pcapdaemon.native.rtnetlink import LONGEST_NAME, Way, namespace_of_process
from pcapdaemon.targets import cgroups, pods
from pcapdaemon.targets.namespaces import Namespaces, identity_of, is_own, is_own_file
from pcapdaemon.targets.settings import TargetSettings

NOT_ALLOWED = "[targets] allow does not allow it"
INSIDE_OFF = "[targets] inside is not set on this node"
OWN = "it shares the network of the host; name an interface instead"
NO_END = (
    "no interface of this host leads to it (macvlan, SR-IOV or a device of the host moved into it);"
    " only `inside` can capture there"
)
OWN_OR_NO_END = (
    "it shares the network of the host, or no interface of this host leads to it; name an"
    " interface, or use `inside`"
)
LONGEST_COMM = 15
"""Characters of a process's name that the kernel keeps."""

MOST_ASKED = 16
"""Most processes of a target whose namespace is asked for."""

MOST_REFUSED = 32
"""Most targets of a request that are reported as refused."""

HIDDEN = (
    "no such process, or it is hidden from this one (ProtectProc= in the unit, or the hidepid"
    " option of /proc)"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A target that was found, and its processes or the file of its namespace."""

    target: Target
    pids: tuple[int, ...] = ()
    file: Path | None = None


def look_up(asked: Asked, settings: TargetSettings) -> Found:
    """Return the interfaces of targets, and why there are none."""
    look = Look(asked, settings)
    places = list(look.places())
    if asked.select_node and not places and not look.refused:
        return Found(elsewhere=not look.starting, starting=look.starting)
    if asked.inside and not settings.inside:
        return Found(refused=tuple(_all_refused(asked, INSIDE_OFF)))
    namespaces = Namespaces(Path(settings.netns)) if places else None
    found: dict[str, Interface] = {}
    for place in places:
        reached = look.interfaces_of(place, namespaces) if namespaces else ()
        found.update((one.name, one) for one in reached)
    if len(found) > settings.most:
        return Found(refused=_too_many(asked, list(found.values()), settings.most))
    refused = tuple(dict.fromkeys(look.refused))[:MOST_REFUSED]
    return Found(tuple(found.values()), refused)


def _all_refused(asked: Asked, words: str) -> Iterator[Refused]:
    named = (asked.pods, asked.containers, asked.netns, asked.processes, asked.units)
    for kind, names in zip(TargetKind, named, strict=True):
        for name in names[:1]:
            yield Refused(kind, name, words)


def _too_many(asked: Asked, found: Sequence[Interface], most: int) -> tuple[Refused, ...]:
    names = ", ".join(one.target.name if one.target else one.name for one in found)
    words = f"{len(found)} interfaces, and [targets] most = {most}: {names}"
    return tuple(_all_refused(asked, words))[:1]


class Look:
    """One look. `refused` and `starting` say what `places` did not yield."""

    def __init__(self, asked: Asked, settings: TargetSettings) -> None:
        self._asked, self._settings = asked, settings
        self._cgroup = Path(settings.cgroup)
        self.refused: list[Refused] = []
        self._names: dict[int, str] | None = None
        self.starting = False

    def places(self) -> Iterator[Place]:
        """Yield the targets that are here."""
        asked = self._asked
        if asked.pods:
            yield from self._pods()
        if asked.ids:
            yield from self._containers(asked.ids)
        for name in asked.netns:
            yield from self._netns(name)
        for name in asked.processes:
            yield from self._process(name)
        if asked.units:
            yield from self._units()

    def interfaces_of(self, place: Place, namespaces: Namespaces) -> list[Interface]:
        """Return the interfaces of a target, or note why there are none."""
        try:
            number, file = self._namespace_of(place, namespaces)
        except OSError as error:
            self._refuse(place.target, f"{place.file}: {os.strerror(error.errno or 0)}")
            return []
        if file is None:
            self._refuse(place.target, OWN)
            return []
        if self._asked.inside:
            return self._inside(place.target, namespaces.file_of(number) or file)
        ways = namespaces.ways_to(number)
        if not ways:
            hidden = bool(place.pids) and is_own(place.pids[0]) is None
            self._refuse(place.target, OWN_OR_NO_END if hidden else NO_END)
        return [_host_end(place.target, way) for way in ways]

    def _namespace_of(self, place: Place, namespaces: Namespaces) -> tuple[int | None, str | None]:
        """Return the number of a target's namespace and a file of it, None if it is the host's."""
        if place.file:
            own = is_own_file(place.file)
            return namespaces.of_file(place.file), None if own else str(place.file)
        for pid in place.pids[:MOST_ASKED]:
            if is_own(pid):
                return None, None
            if (number := namespace_of_process(pid)) is not None:
                return number, f"/proc/{pid}/ns/net"
        return None, f"/proc/{place.pids[0]}/ns/net"

    def _inside(self, target: Target, file: str) -> list[Interface]:
        wrong = [name for name in self._asked.devices if not _is_device(name)]
        for name in wrong:
            self._refuse(target, f"{name[:64]}: is no name of a network interface")
        if wrong:
            return []
        return [_inside(target, file, name) for name in self._asked.devices or ("any",)]

    def _refuse(self, target: Target, words: str) -> None:
        self.refused.append(Refused(target.kind, target.name, words))

    def _allows(self, kind: TargetKind, name: str) -> bool:
        return matches(f"{kind}:{name}", self._settings.allow)

    def _pods(self) -> Iterator[Place]:
        asked = self._asked
        found = pods.pods_in(Path(self._settings.logs), asked.pods)
        found = [pod for pod in found if _has_one(pod.containers, asked.containers)]
        allowed = [pod for pod in found if self._allows(TargetKind.POD, pod.name)]
        if found and not allowed:
            self.refused += [Refused(TargetKind.POD, name, NOT_ALLOWED) for name in asked.pods]
        yield from self._running(allowed)

    def _running(self, found: Sequence[pods.Pod]) -> Iterator[Place]:
        groups = pods.groups_of(found, self._cgroup)
        for pod in found:
            group = groups.get(pod.uid)
            if group and (pids := cgroups.processes(group)):
                yield Place(_pod_target(pod, group, self._asked.inside), tuple(pids))
            elif pod.is_new:
                self.starting = True

    def _containers(self, ids: Iterable[str]) -> Iterator[Place]:
        for tree in cgroups.roots(self._cgroup):
            groups = cgroups.find(tree, lambda name: _begins(cgroups.container_of(name), ids))
            if groups:
                break
        else:
            return
        for group in groups:
            if pids := cgroups.processes(group):
                yield from self._container(group, pids)

    def _container(self, group: Path, pids: list[int]) -> Iterator[Place]:
        """Yield a container: as its pod, if the pod is known and allowed."""
        uid = next(filter(None, (cgroups.pod_of(part) for part in group.parts)), "")
        known = pods.pods_in(Path(self._settings.logs), uids=(uid,)) if uid else []
        own = cgroups.container_of(group.name)
        target = Target(
            TargetKind.CONTAINER, own, uid, inside=self._asked.inside, witnesses=(str(group),)
        )
        if known:
            target = replace(target, kind=TargetKind.POD, name=known[0].name, containers=(own,))
        allowed = self._allows(TargetKind.CONTAINER, own) or self._allows(target.kind, target.name)
        if allowed:
            yield Place(target, tuple(pids))
        else:
            self.refused.append(Refused(TargetKind.CONTAINER, own, NOT_ALLOWED))

    def _netns(self, name: str) -> Iterator[Place]:
        file = Path(self._settings.netns) / name
        if not self._allows(TargetKind.NETNS, name):
            self.refused.append(Refused(TargetKind.NETNS, name, NOT_ALLOWED))
        elif not file.exists():
            words = f"no such network namespace in {self._settings.netns}"
            self.refused.append(Refused(TargetKind.NETNS, name, words))
        else:
            inside = self._asked.inside
            yield Place(
                Target(TargetKind.NETNS, name, inside=inside, witnesses=(str(file),)), file=file
            )

    def _process(self, name: str) -> Iterator[Place]:
        there = {
            pid: called
            for pid, called in self._processes().items()
            if called == name[:LONGEST_COMM]
        }
        if is_pid(name):
            there = {int(name): _name_of(int(name))} if _exists(int(name)) else {}
        if not there:
            self.refused.append(Refused(TargetKind.PROCESS, name, HIDDEN))
        elif not any(self._allows(TargetKind.PROCESS, one) for one in {name, *there.values()}):
            self.refused.append(Refused(TargetKind.PROCESS, name, NOT_ALLOWED))
        else:
            yield from self._places_of(name, list(there))

    def _places_of(self, name: str, pids: list[int]) -> Iterator[Place]:
        """Yield a place for each namespace of processes with one name.

        Of several, those of the host are not meant if there are others.
        """
        groups: dict[object, list[int]] = {}
        for pid in [pid for pid in pids if not is_own(pid)] or pids[:1]:
            groups.setdefault(identity_of(pid), []).append(pid)
        for members in groups.values():
            called = name if len(groups) == 1 else f"{name}.{members[0]}"
            paths = tuple(p for pid in members if Path(p := f"/proc/{pid}").exists())
            inside = self._asked.inside
            target = Target(TargetKind.PROCESS, called, inside=inside, witnesses=paths)
            yield Place(target, tuple(members))

    def _processes(self) -> dict[int, str]:
        """Return the names of all processes, as far as they show, read once."""
        if self._names is None:
            numbers = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
            self._names = {pid: _name_of(pid) for pid in numbers}
        return self._names

    def _units(self) -> Iterator[Place]:
        names = [name for name in self._asked.units if self._allows(TargetKind.UNIT, name)]
        for name in self._asked.units:
            if name not in names:
                self.refused.append(Refused(TargetKind.UNIT, name, NOT_ALLOWED))
        found: dict[str, Place] = {}
        for tree in cgroups.roots(self._cgroup) if names else ():
            for group in cgroups.find(tree, lambda one: one in names, skip_pods=True):
                if group.name not in found and (pids := cgroups.processes(group)):
                    kind, inside = TargetKind.UNIT, self._asked.inside
                    target = Target(kind, group.name, inside=inside, witnesses=(str(group),))
                    found[group.name] = Place(target, tuple(pids))
        for name in names:
            if name not in found:
                words = "no such unit runs on this node"
                self.refused.append(Refused(TargetKind.UNIT, name, words))
        yield from found.values()


def _host_end(target: Target, way: Way) -> Interface:
    words = f"{target.label.replace(':', ' ', 1)}, the end on the host"
    link = way.link
    return Interface(link.name, InterfaceKind.NETWORK, words, up=link.up, target=target)


def _inside(target: Target, file: str, device: str) -> Interface:
    kind = InterfaceKind.ANY if device == "any" else InterfaceKind.NETWORK
    called = target.name if target.kind is TargetKind.POD else target.label
    return Interface(
        f"{device}@{called}",
        kind,
        f"{target.label.replace(':', ' ', 1)}, inside",
        loopback=device == "lo",
        target=target,
        namespace=file,
        device=device,
    )


def _is_device(name: str) -> bool:
    """Return whether libpcap takes a name for a network interface of the namespace."""
    return 0 < len(name) <= LONGEST_NAME and "/" not in name and not PSEUDO.fullmatch(name)


def _pod_target(pod: pods.Pod, group: Path, inside: bool) -> Target:
    return Target(TargetKind.POD, pod.name, pod.uid, pod.containers, inside, (str(group),))


def _has_one(containers: Sequence[str], wanted: Sequence[str]) -> bool:
    return not wanted or any(name in containers for name in wanted)


def _begins(name: str, beginnings: Iterable[str]) -> bool:
    return bool(name) and any(name.startswith(one) for one in beginnings)


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0
