"""containerd and CNI of Debian, with pods as a kubelet makes them: a pause container and others."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
import uuid
from pathlib import Path
from typing import Any

from tests.helpers import eventually

BUSYBOX = Path("/bin/busybox")
IMAGE = "docker.io/test/busybox:1"
BRIDGE = "cni-test0"
NETWORK: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "test",
    "type": "bridge",
    "bridge": BRIDGE,
    "isGateway": True,
    "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"},
}
START = """
mount --make-rprivate /
mkdir -p /run/netns /etc/cni /opt/cni
for place in /run/netns /etc/cni /opt/cni; do mount -t tmpfs tmpfs $place; done
mkdir -p /etc/cni/net.d /opt/cni/bin /run/netns
cp "$1" /etc/cni/net.d/10-test.conf
mount --bind /usr/lib/cni /opt/cni/bin
exec containerd --config "$2"
"""


class Containerd:
    """A containerd in a mount namespace of its own, and in the network namespace of the tests."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.logs = directory, directory / "pods"
        self.logs.mkdir(parents=True)
        directory.chmod(0o755)
        self.socket = directory / "c.sock"
        config = directory / "config.toml"
        config.write_text(
            "version = 2\n"
            f"root = '{directory}/root'\nstate = '{directory}/state'\n"
            "disabled_plugins = ['io.containerd.grpc.v1.cri']\n"
            f"[grpc]\naddress = '{self.socket}'\n"
        )
        network = directory / "network.conf"
        network.write_text(json.dumps({**NETWORK, "ipam": _ipam(directory)}))
        enter = ["unshare", "--mount", "sh", "-ec", START]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*enter, "containerd", str(network), str(config)], stdout=log, stderr=log
            )
        eventually(self._answers)
        archive = directory / "image.tar"
        _make_image(archive)
        self.ctr("images", "import", "--snapshotter", "native", str(archive))
        self._names: list[str] = []

    @property
    def inside(self) -> list[str]:
        """What runs a command where containerd runs."""
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt"]

    def ctr(self, *words: str) -> str:
        """Run a command of containerd."""
        command = [*self.inside, "ctr", "--address", str(self.socket), "-n", "k8s.io", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + (self.directory / "log").read_text()[-2000:]
        return done.stdout

    def run(self, uid: str, *options: str) -> tuple[str, int]:
        """Start a container of a pod, and return its id and its process."""
        name = uuid.uuid4().hex * 2
        group = f"/kubepods/besteffort/pod{uid}/{name}"
        sleep = ["/bin/busybox", "sleep", "100000"]
        given = ["--detach", "--snapshotter", "native", "--cgroup", group, *options]
        self.ctr("run", *given, IMAGE, name, *sleep)
        self._names.append(name)
        listed = self.ctr("tasks", "list").splitlines()
        (line,) = [line for line in listed if line.startswith(name)]
        return name, int(line.split()[1])

    def remove(self, name: str) -> None:
        """End a container and remove it."""
        self.ctr("tasks", "delete", "--force", name)
        self.ctr("containers", "delete", name)
        self._names.remove(name)

    def close(self) -> None:
        """End all containers, and containerd."""
        for name in list(self._names):
            self.remove(name)
        self.process.terminate()
        self.process.wait(30)
        for tree in Path("/sys/fs/cgroup").glob("**/kubepods"):
            groups = [path for path in tree.rglob("*") if path.is_dir()]
            for group in (*sorted(groups, reverse=True), tree):
                group.rmdir()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, stderr=subprocess.DEVNULL)

    def _answers(self) -> bool:
        command = [*self.inside, "ctr", "--address", str(self.socket), "version"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class RealPod:
    """A pod: a pause container with the network, and an app container in it."""

    def __init__(self, containerd: Containerd, name: str) -> None:
        self.name, self.uid, self._containerd = name, str(uuid.uuid4()), containerd
        (containerd.logs / f"{name.replace('/', '_')}_{self.uid}" / "app").mkdir(parents=True)
        self.pause, self.pid = containerd.run(self.uid, "--cni")
        self.app = ""
        self.restart()

    def restart(self) -> None:
        """Start the app container, again if it runs."""
        if self.app:
            self._containerd.remove(self.app)
        network = f"network:/proc/{self.pid}/ns/net"
        self.app, _ = self._containerd.run(self.uid, "--with-ns", network)

    def inside(self, *command: str) -> str:
        """Run a command in its network namespace."""
        enter = ["nsenter", "-t", str(self.pid), "-n", *command]
        return subprocess.run(enter, check=True, capture_output=True, text=True).stdout

    @property
    def address(self) -> str:
        """Its address."""
        shown = json.loads(self.inside("ip", "-j", "-4", "address", "show", "dev", "eth0"))
        return str(shown[0]["addr_info"][0]["local"])

    def end(self) -> None:
        """End it, as the kubelet does."""
        self._containerd.remove(self.app)
        self._containerd.remove(self.pause)


def _ipam(directory: Path) -> dict[str, Any]:
    return {**NETWORK["ipam"], "dataDir": str(directory / "ipam")}


def _make_image(path: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
    body = layer.getvalue()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(body)}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        parts = {
            "layer.tar": body,
            "config.json": config,
            "manifest.json": json.dumps(manifest).encode(),
        }
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), int(time.time())
            tar.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
