"""Pods without Kubernetes: a namespace, a process, a veth pair, a cgroup and names in logs."""

import itertools
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import Wire, eventually

_numbers = itertools.count()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Cluster:
    """The directories in which a node finds its pods, and the pods in them."""

    directory: Path
    sender: Path
    pods: list["Pod"] = field(default_factory=list)

    def __post_init__(self) -> None:
        for one in (self.logs, self.cgroup):
            one.mkdir(parents=True)

    @property
    def logs(self) -> Path:
        """The kubelet's directory of logs."""
        return self.directory / "logs"

    @property
    def cgroup(self) -> Path:
        """The tree of cgroups."""
        return self.directory / "cgroup"

    def section(self, **more: object) -> dict[str, object]:
        """Return the section `[targets]`."""
        return {"logs": str(self.logs), "cgroup": str(self.cgroup), **more}

    def pod(self, name: str, kind: str = "veth", **more: str) -> "Pod":
        """Start a pod."""
        return Pod(self, name, kind, **more)

    def close(self) -> None:
        """End all pods."""
        for pod in self.pods:
            pod.end()


class Pod:
    """One pod with a container. `kind` is that of its interface: veth, apart or
    host. One that is apart has no end on the host, like a macvlan."""

    def __init__(
        self, cluster: Cluster, name: str, kind: str, container: str = "app", uid: str = ""
    ) -> None:
        self.cluster, self.name, self.uid = cluster, name, uid or str(uuid.uuid4())
        number = next(_numbers)
        self.interface = f"pod{number}"
        apart = [] if kind == "host" else ["unshare", "--net", "--"]
        self.process = subprocess.Popen([*apart, "sleep", "infinity"])
        cluster.pods.append(self)
        if apart:
            own = Path("/proc/self/ns/net").readlink()
            eventually(lambda: Path(f"/proc/{self.process.pid}/ns/net").readlink() != own)
        self.id = uuid.uuid4().hex * 2
        slice_name = f"kubepods-besteffort-pod{self.uid.replace('-', '_')}.slice"
        above = cluster.cgroup / "kubepods.slice" / "kubepods-besteffort.slice"
        self.group = above / slice_name
        self.scope = self.group / f"cri-containerd-{self.id}.scope"
        self.scope.mkdir(parents=True)
        (self.scope / "cgroup.procs").write_text(f"{self.process.pid}\n")
        if kind == "veth":
            self._veth()
        elif kind == "apart":
            self._apart()
        self.log = cluster.logs / f"{name.replace('/', '_')}_{self.uid}"
        (self.log / container).mkdir(parents=True)

    @property
    def wire(self) -> Wire:
        """The wire from the host's end to the pod."""
        return Wire(self.interface, "eth0", self.cluster.sender)

    def sends(self, frames: int, interface: str = "eth0") -> None:
        """Send frames from inside the pod."""
        command = [str(self.cluster.sender), interface, str(frames), "100", "0", "1"]
        self.inside(*command)

    def inside(self, *command: str) -> None:
        """Run a command in its namespace."""
        _run("nsenter", "-t", str(self.process.pid), "-n", *command)

    def end(self) -> None:
        """End it, as the kubelet does: its processes, its interface, its cgroup."""
        self.process.kill()
        self.process.wait()
        gone = ["ip", "link", "del", self.interface]
        subprocess.run(gone, check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.group, ignore_errors=True)

    def _veth(self) -> None:
        number = str(self.process.pid)
        peer = ["type", "veth", "peer", "name", "eth0", "netns", number]
        _run("ip", "link", "add", self.interface, *peer)
        Path(f"/proc/sys/net/ipv6/conf/{self.interface}/disable_ipv6").write_text("1")
        self.inside("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
        self.inside("ip", "link", "set", "eth0", "up")
        self.inside("ip", "link", "set", "lo", "up")
        _run("ip", "link", "set", self.interface, "up")
        eventually(lambda: "state UP" in _shown(self.interface))

    def _apart(self) -> None:
        self.inside("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        self.inside("ip", "link", "set", "lo", "up")


def _shown(device: str) -> str:
    command = ["ip", "-o", "link", "show", device]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
