"""What `packaging/all` tries besides: Python's versions, the image, the chart, the role."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.helpers import Wire, eventually, numbers
from tests.packages.conftest import ROOT, CleanRoot, built
from tests.servers import free_port

pytestmark = pytest.mark.timeout(900)
TOOLS = ROOT / "build" / "more-tools" / "bin"
CHART = ROOT / "packaging" / "helm" / "pcapdaemon"
HELM = str(ROOT / "build" / "helm")
ROLE = ROOT / "packaging" / "ansible" / "pcapdaemon"
PYTHONS = sorted((ROOT / "build").glob("python-3.*"))


def run(*command: Any, **more: Any) -> str:
    """Run a command, and return what it prints."""
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, encoding="utf-8", **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.mark.parametrize("environment", PYTHONS, ids=lambda path: path.name)
def test_one_wheel_captures_on_each_python(environment: Path, wire: Wire, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    program = str(environment / "bin" / "pcapdaemon")
    command = [program, "capture", "-i", wire.far, "-c", "5", "-w", str(file)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={"PATH": "/usr/bin"}
    ) as capture:
        assert capture.stderr
        assert "capturing on" in capture.stderr.readline()
        wire.send(5)
    assert numbers(file) == list(range(5))


def test_there_is_more_than_one_python() -> None:
    assert len(PYTHONS) > 1


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The image, unpacked for runc."""
    layout = tmp_path / "layout"
    layout.mkdir()
    archive = built("*-oci.tar")
    run("tar", "-C", layout, "-xf", archive)
    version = archive.name.split("-")[1]
    run("umoci", "unpack", "--image", f"{layout}:{version}", tmp_path / "bundle")
    assert version in run("skopeo", "inspect", f"oci:{layout}:{version}")
    return tmp_path / "bundle"


def test_the_image_runs_with_one_capability_and_a_read_only_root(
    bundle: Path, wire: Wire, tmp_path: Path
) -> None:
    port, saved = free_port(), tmp_path / "saved"
    saved.mkdir()
    config = tmp_path / "c.toml"
    config.write_text(
        f"[http]\nlisten = true\nport = {port}\n"
        "[general]\nwritelocal = true\nlocaldir = '/var/lib/pcapdaemon'\n"
    )
    spec = json.loads((bundle / "config.json").read_text())
    assert spec["process"]["args"][0] == "pcapdaemon"
    spec["process"]["terminal"] = False
    spec["process"]["noNewPrivileges"] = True
    names = ("bounding", "effective", "inheritable", "permitted", "ambient")
    spec["process"]["capabilities"] = {name: ["CAP_NET_RAW"] for name in names}
    spec["root"]["readonly"] = True
    spec["linux"]["namespaces"] = [
        {"type": kind} for kind in ("pid", "ipc", "uts", "mount")
    ]  # the network of the host
    for there, here in (
        ("/etc/pcapdaemon/pcapdaemon.toml", config),
        ("/var/lib/pcapdaemon", saved),
    ):
        spec["mounts"] = [one for one in spec["mounts"] if one["destination"] != there]
        options = ["rbind", "rw" if here == saved else "ro"]
        mount = {"destination": there, "type": "bind", "source": str(here), "options": options}
        spec["mounts"].append(mount)
    (bundle / "config.json").write_text(json.dumps(spec))
    name = f"pcapdaemon-{os.getpid()}"
    container = subprocess.Popen(["runc", "run", "--bundle", bundle, name])
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
        try:
            eventually(lambda: _is_up(api))
            status = Path(f"/proc/{json.loads(run('runc', 'state', name))['pid']}/status")
            assert "CapEff:\t0000000000002000" in status.read_text()
            message = {"node": "any", "interface": [wire.far], "packets": 5, "id": "x"}
            assert api.post("/captures", json={**message, "timeout": 30}).status_code == 202
            wire.send(5)
            eventually(lambda: api.get("/captures/x").json()["state"] == "finished")
        finally:
            run("runc", "kill", name, "TERM")
            assert container.wait(30) == 0
    (file,) = saved.glob("*.pcap")
    assert numbers(file) == list(range(5))


def _is_up(api: httpx2.Client) -> bool:
    try:
        return bool(api.get("/healthz").status_code == 200)
    except httpx2.TransportError:
        return False


VALUES: dict[str, list[str]] = {
    "default": [],
    "inside": ["targets.inside=true"],
    "inside without targets": ["targets.inside=true", "targets.enabled=false"],
    "no probe": ["livenessProbe=null"],
    "without targets": ["targets.enabled=false"],
    "secrets": ["existingSecret=mine"],
    "no host path": ["state.hostPath="],
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_the_chart_makes_what_kubernetes_takes(
    values: list[str], version: str, tmp_path: Path
) -> None:
    options = [word for value in values for word in ("--set", value)]
    run(HELM, "lint", "--strict", CHART, *options)
    made = run(HELM, "template", "x", CHART, "--kube-version", f"{version}.0", *options)
    file = tmp_path / "made.yaml"
    file.write_text(made)
    run(TOOLS / "kubernetes-validate", "--kubernetes-version", version, "--strict", file)
    assert "hostNetwork: true" in made
    assert ("SYS_ADMIN" in made) == (values == ["targets.inside=true"])
    assert ("hostPID: true" in made) == ("targets.enabled=false" not in values)
    assert ("livenessProbe" in made) == (values != ["livenessProbe=null"])


@pytest.mark.parametrize(
    "value", ["targets.enabled=maybe", "targets.allow={shop/*}", "imgae.tag=1", "image.repository="]
)
def test_the_chart_refuses_wrong_values(value: str) -> None:
    done = subprocess.run(
        [HELM, "template", CHART, "--kube-version", "1.34.0", "--set", value],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_the_configuration_of_the_chart_is_valid(tmp_path: Path) -> None:
    import yaml

    made = run(
        HELM,
        "template",
        "x",
        CHART,
        "--kube-version",
        "1.34.0",
        "--show-only",
        "templates/configmap.yaml",
    )
    text = yaml.safe_load(made)["data"]["pcapdaemon.toml"]
    file = tmp_path / "c.toml"
    file.write_text(text.replace("/var/lib/pcapdaemon", str(tmp_path)))
    run(ROOT / ".venv" / "bin" / "pcapdaemon", "check", "--config", file)


def test_the_role_has_no_mistakes() -> None:
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    run(TOOLS / "ansible-lint", "--offline", "--profile", "production", ROLE, env=environment)


def test_the_role_installs_and_changes_nothing_the_second_time(
    clean_root: CleanRoot, tmp_path: Path
) -> None:
    """In a clean Debian without systemd, by a chroot as the shell of the connection."""
    (clean_root.directory / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    play = tmp_path / "play.yml"
    variables = {
        "pcapdaemon_package_file": str(built("*.deb")),
        "pcapdaemon_service_enabled": False,
        "pcapdaemon_secrets": {"token": "s3cret"},
    }
    tasks = [{"role": str(ROLE)}]
    play.write_text(
        json.dumps([{"hosts": "all", "gather_facts": True, "roles": tasks, "vars": variables}])
    )
    plugins = ROOT / "tests" / "packages" / "connections"
    environment = {
        **os.environ,
        "ANSIBLE_CONNECTION_PLUGINS": str(plugins),
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
    }
    command = [TOOLS / "ansible-playbook", "-i", f"{clean_root.directory},", "-c", "rooted", play]
    first = run(*command, env=environment)
    assert "failed=0" in first
    second = run(*command, env=environment)
    assert "changed=0" in second, second
    secret = clean_root.directory / "etc/pcapdaemon/secrets/token"
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("s3cret", 0o600)
    assert "(bundled)" in clean_root.run("pcapdaemon", "--version")
