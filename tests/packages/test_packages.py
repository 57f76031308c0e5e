"""Packages, installed and used on a machine with neither a compiler nor libpcap."""

import gzip
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx2
import pytest

from tests.helpers import Wire, eventually, numbers
from tests.packages.conftest import ROOT, CleanRoot, built
from tests.servers import free_port

pytestmark = pytest.mark.timeout(1500)
USER = ["setpriv", "--reuid=pcapdaemon", "--regid=pcapdaemon", "--clear-groups", "--no-new-privs"]
USER += ["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"]
USER += ["--bounding-set=-all,+net_raw"]


EXTRAS = "pcapdaemon[kafka,redis,aws]"


@contextmanager
def daemon(root: CleanRoot, program: Sequence[str], wire: Wire) -> Iterator[httpx2.Client]:
    """Run the daemon in a clean root, with a directory for savefiles."""
    port = free_port()
    config = root.directory / "etc" / "test.toml"
    saved = root.directory / "var" / "saved"
    saved.mkdir()
    saved.chmod(0o777)
    config.write_text(
        f"[http]\nlisten = true\nport = {port}\n"
        "[general]\nwritelocal = true\nlocaldir = '/var/saved'\n"
        f"[[interface]]\nname = '{wire.far}'\n"
    )
    command = root.command(*program, "run", "--config", "/etc/test.toml")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    api = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    try:
        eventually(lambda: _answers(api))
        yield api
    finally:
        api.close()
        process.terminate()
        assert process.wait(30) == 0


def _answers(api: httpx2.Client) -> bool:
    try:
        return bool(api.get("/readyz").status_code == 200)
    except httpx2.TransportError:
        return False


def captures(root: CleanRoot, api: httpx2.Client, wire: Wire) -> None:
    """Capture the sender's frames, and check the savefile by an independent reader."""
    assert "app.js" in api.get("/console/").text
    message = {"node": "any", "interface": [wire.far], "packets": 5, "id": "x", "timeout": 30}
    assert api.post("/captures", json=message).status_code == 202
    wire.send(5)
    eventually(lambda: api.get("/captures/x").json()["state"] == "finished")
    (file,) = (root.directory / "var" / "saved").glob("*.pcap")
    assert numbers(file) == list(range(5))


def test_the_wheel_is_for_old_systems_and_brings_only_libpcap() -> None:
    wheel = built("*x86_64.whl")
    assert "-cp311-abi3-manylinux2014_x86_64" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    (library,) = [name for name in names if name.startswith("pcapdaemon.libs/lib")]
    assert library.startswith("pcapdaemon.libs/libpcap-")
    assert any(name.endswith("licenses/LICENSE.libpcap") for name in names)


def by_pip(root: CleanRoot, house: str) -> str:
    """Install the wheel in a virtual environment, and return the program."""
    root.run("python3", "-m", "venv", "/opt/pcapdaemon")
    pip = ["/opt/pcapdaemon/bin/pip", "install", "-q", "--no-index", "--find-links", house]
    root.run(*pip, EXTRAS)
    return "/opt/pcapdaemon/bin/pcapdaemon"


def by_uv(root: CleanRoot, house: str) -> str:
    """Install the wheel as a tool of uv, and return the program."""
    uv = root.bring(ROOT / ".uv" / "bin" / "uv")
    root.run(uv, "tool", "install", "-q", "--no-index", "--find-links", house, EXTRAS)
    return "/root/.local/bin/pcapdaemon"


@pytest.mark.parametrize("install", [by_pip, by_uv])
def test_the_wheel_captures_within_a_minute_without_a_network(
    clean_root: CleanRoot, wire: Wire, install: Callable[[CleanRoot, str], str]
) -> None:
    house = clean_root.bring(ROOT / "build" / "wheelhouse")
    begun = time.monotonic()
    program = install(clean_root, house)
    assert "libpcap 1.10.5 (bundled)" in clean_root.run(program, "--version")
    with daemon(clean_root, [program], wire) as api:
        captures(clean_root, api, wire)
    assert time.monotonic() - begun < 60


def test_the_deb_is_installed_used_and_removed(clean_root: CleanRoot, wire: Wire) -> None:
    package = clean_root.bring(built("*.deb"))
    clean_root.run("dpkg", "-i", package)
    there = clean_root.directory
    config = there / "etc/pcapdaemon/pcapdaemon.toml"
    assert config.stat().st_mode & 0o777 == 0o640
    assert config.group() != "root" or config.stat().st_gid != 0
    assert "(bundled)" in clean_root.run("pcapdaemon", "--version")
    with daemon(clean_root, [*USER, "pcapdaemon"], wire) as api:
        captures(clean_root, api, wire)
    for module in ("boto3", "confluent_kafka", "redis"):
        assert list((there / "usr/lib/pcapdaemon").glob(f"{module}*"))
    config.write_text("# mine\n")
    clean_root.run("dpkg", "-i", package)
    assert config.read_text() == "# mine\n"
    clean_root.run("dpkg", "-r", "pcapdaemon")
    assert config.exists()
    clean_root.run("dpkg", "-P", "pcapdaemon")
    for name in (
        "etc/pcapdaemon",
        "usr/lib/pcapdaemon",
        "var/lib/pcapdaemon",
        "usr/bin/pcapdaemon",
    ):
        assert not (there / name).exists(), name
    assert "pcapdaemon" not in (there / "etc/passwd").read_text()


def test_the_deb_has_a_manual_page_and_completes_names_of_pods(clean_root: CleanRoot) -> None:
    clean_root.run("dpkg", "-i", clean_root.bring(built("*.deb")))
    shared = clean_root.directory / "usr/share"
    page = gzip.decompress((shared / "man/man1/pcapdaemon.1.gz").read_bytes()).decode()
    assert all(f".SS pcapdaemon {name}" in page for name in ("capture", "request", "spool list"))
    pods = clean_root.directory / "var/log/pods"
    (pods / "shop_web-1_0a1b2c3d-1111-2222-3333-444455556666" / "app").mkdir(parents=True)
    script = "source /usr/share/bash-completion/completions/pcapdaemon"
    words = "COMP_WORDS=(pcapdaemon request --pod sh); COMP_CWORD=3"
    show = f"{script}; {words}; _pcapdaemon_completion pcapdaemon; echo ${{COMPREPLY[@]}}"
    assert clean_root.run("bash", "-c", show).strip() == "shop/web-1"
    for name in ("zsh/vendor-completions/_pcapdaemon", "fish/vendor_completions.d/pcapdaemon.fish"):
        assert "pcapdaemon" in (shared / name).read_text()


def test_the_example_configuration_of_the_package_is_valid(clean_root: CleanRoot) -> None:
    clean_root.run("dpkg", "-i", clean_root.bring(built("*.deb")))
    command = ["pcapdaemon", "check", "--config", "/etc/pcapdaemon/pcapdaemon.toml", "--json"]
    assert '"good": false' not in clean_root.run(*command)


def test_the_rpm_has_the_same_program(clean_root: CleanRoot, wire: Wire) -> None:
    """Without an RPM distribution: its files and its script, and its requirements by name."""
    package = built("*.rpm")
    query = subprocess.run(
        ["rpm", "-qp", "--requires", package], check=True, capture_output=True, text=True
    )
    assert "python(abi) = 3.11" in query.stdout
    rpm = ["rpm", "--root", str(clean_root.directory), "--nodeps", "--nosignature"]
    subprocess.run([*rpm, "-i", str(package)], check=True)
    with daemon(clean_root, [*USER, "pcapdaemon"], wire) as api:
        captures(clean_root, api, wire)
    subprocess.run([*rpm, "-e", "pcapdaemon"], check=True)
    assert not (clean_root.directory / "usr/lib/pcapdaemon").exists()
