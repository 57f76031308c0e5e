"""Savefiles over the API: from the local directory, from the spool, whole and in part."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.cloudshark import CloudSharkServer
from tests.helpers import Wire, eventually, numbers
from tests.servers import PCAPDAEMON, DaemonProcess


def captured(daemon: DaemonProcess, wire: Wire, name: str = "one") -> str:
    """Return the path of the savefile of a capture in the API."""
    daemon.request(interface=[wire.far], id=name, packets=20)
    eventually(lambda: daemon.logged("capture started", id=name))
    wire.send(20)
    eventually(lambda: daemon.logged("request finished", id=name))
    return f"/captures/{name}/files/{daemon.record(name)['captures'][0]['file_name']}"


def test_a_savefile_of_the_local_directory(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    path = captured(daemon, wire)
    answer = daemon.api("GET", path)
    (file,) = daemon.captures.glob("*.pcap")
    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["content-type"] == "application/vnd.tcpdump.pcap"
    assert answer.headers["content-disposition"] == f'attachment; filename="{file.name}"'
    (tmp_path / "got.pcap").write_bytes(answer.content)
    assert numbers(tmp_path / "got.pcap") == list(range(20))
    file.unlink()
    assert daemon.api("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("mount", "status", "words"),
    [("-t proc -o subset=pid proc", 200, ""), ("-t tmpfs none", 403, "can't be found out")],
)
def test_a_savefile_is_had_if_its_user_can_be_found_out(
    make: Make, wire: Wire, mount: str, status: int, words: str
) -> None:
    """With ProcSubset=pid, as in the unit, and without /proc."""
    daemon = make({})
    script = f'mount {mount} /proc && exec "$@"'
    daemon.start(wrapper=["unshare", "--mount", "sh", "-c", script, "sh"])
    answer = daemon.api("GET", captured(daemon, wire))
    assert answer.status_code == status
    assert status == 200 or words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=0-", 200, slice(None)),
        ("bytes=0-999999", 200, slice(None)),
        ("bytes=-999999", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=999999-", 416, None),
        ("bytes=5-4", 200, slice(None)),
        ("bytes=0-" + "9" * 5000, 200, slice(None)),
        ("bytes=" + "9" * 18 + "-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(
    daemon: DaemonProcess, wire: Wire, wanted: str, status: int, part: slice | None
) -> None:
    path = captured(daemon, wire)
    (file,) = daemon.captures.glob("*.pcap")
    content = file.read_bytes()
    answer = daemon.api("GET", path, headers={"range": wanted})
    assert answer.status_code == status
    if part is None:
        assert answer.headers["content-range"] == f"bytes */{len(content)}"
        return
    assert answer.content == content[part]
    if status == 206:
        start, end, _ = part.indices(len(content))
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"


def test_a_savefile_that_only_the_spool_has(make: Make, wire: Wire, tmp_path: Path) -> None:
    server = CloudSharkServer(tmp_path).start()
    server.trouble(*[503] * 100)
    daemon = make(
        {
            "cloudshark": server.section(),
            "general": {"writelocal": False},
            "spool": {"dir": str(tmp_path / "spool")},
            "delivery": {"memory_grace": 1},
        }
    ).start()
    path = captured(daemon, wire)
    answer = daemon.api("GET", path)
    assert answer.status_code == 200
    assert len(answer.content) == daemon.record("one")["captures"][0]["bytes"]
    assert daemon.stop() == 0
    server.kill()


def test_nobody_gets_another_file(daemon: DaemonProcess, wire: Wire, tmp_path: Path) -> None:
    path = captured(daemon, wire)
    (file,) = daemon.captures.glob("*.pcap")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for wrong in (
        "/captures/one/files/nope.pcap",
        "/captures/two/files/" + file.name,
        "/captures/one/files/..%2F..%2Fsecret",
        "/captures/one/files/" + str(secret).replace("/", "%2F"),
        "/captures/one/files/",
    ):
        assert daemon.api("GET", wrong).status_code == 404, wrong
    file.unlink()
    file.symlink_to(secret)
    assert daemon.api("GET", path).status_code == 404


def test_an_id_that_looks_like_a_savefile_has_a_record(daemon: DaemonProcess, wire: Wire) -> None:
    for name in ("a/files/b", "files/x", "a/files/"):
        daemon.request(wait=True, interface=[wire.far], id=name, duration=1)
        assert daemon.record(name)["id"] == name


def test_without_a_token_other_users_get_no_savefile(daemon: DaemonProcess, wire: Wire) -> None:
    path = captured(daemon, wire)
    code = (
        "import sys, urllib.request, urllib.error\n"
        "try: print(urllib.request.urlopen(sys.argv[1]).status)\n"
        "except urllib.error.HTTPError as error: print(error.code, error.read().decode())"
    )
    url = f"http://127.0.0.1:{daemon.port}{path}"
    for user, words in ((65534, "403 "), (os.geteuid(), "200")):
        asked = subprocess.run(
            ["/usr/bin/python3", "-c", code, url],
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.stdout.startswith(words), asked
        assert ("[http] token_file" in asked.stdout) == (user == 65534)
    assert daemon.api("GET", path.partition("/files")[0]).status_code == 200
    pretend = (
        "import sys, socket, urllib.request, urllib.error\n"
        "host, port, path = sys.argv[1:]\n"
        "old = socket.create_connection((host, int(port)))\n"
        "own = old.getsockname()[1]\n"
        "old.close()\n"
        "for who in (f'127.0.0.1:{own}', '127.0.0.1', 'unknown', ''):\n"
        "    asked = urllib.request.Request(f'http://{host}:{port}{path}')\n"
        "    asked.add_header('X-Forwarded-For', who)\n"
        "    try: print(urllib.request.urlopen(asked).status)\n"
        "    except urllib.error.HTTPError as error: print(error.code)\n"
    )
    asked = subprocess.run(
        ["/usr/bin/python3", "-c", pretend, "127.0.0.1", str(daemon.port), path],
        user=65534,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.split() == ["403"] * 4


def test_without_the_token_there_is_no_file(make: Make, wire: Wire) -> None:
    daemon = make({"http": {"token": "a-long-token"}}).start()
    assert daemon.api("GET", "/captures/one/files/x.pcap").status_code == 401


def test_records_survive_a_restart_and_a_crash(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make({"general": {"statedir": str(tmp_path / "state")}}).start()
    captured(daemon, wire, "one")
    daemon.request(interface=["nope0"], id="bad")
    before = daemon.record("one")
    daemon.request(wait=True, interface=[wire.far], id="two", duration=1, bpf="tcp", alertid=7)
    kept = tmp_path / "state" / "records.jsonl"
    eventually(lambda: '"two"' in kept.read_text() and '"bad"' in kept.read_text())
    daemon.kill()
    daemon.start()
    assert daemon.record("one") == before
    assert daemon.record("bad")["state"] == "rejected"
    assert daemon.api("GET", "/captures?limit=1").json()[0]["id"] == "two"
    assert (daemon.record("two")["bpf"], daemon.record("two")["alertid"]) == ("tcp", 7)
    daemon.request(interface=["nope0"], id="last")
    daemon.stop()
    kept.write_text(kept.read_text() + '{"id": "torn')
    daemon.start()
    assert daemon.record("last")["state"] == "rejected"
    assert kept.stat().st_mode & 0o077 == 0
    name = before["captures"][0]["file_name"]
    assert daemon.api("GET", f"/captures/one/files/{name}").status_code == 200


def test_the_commands_that_read_records(daemon: DaemonProcess, wire: Wire, tmp_path: Path) -> None:
    captured(daemon, wire, "one")
    daemon.request(wait=True, interface=[wire.far], id="empty", duration=1, customer="acme")
    daemon.request(interface=["nope0"], id="bad")
    api = ("--url", f"http://127.0.0.1:{daemon.port}")
    (file,) = daemon.captures.glob("*.pcap")
    lines = command("list", *api).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["request", "bad", "empty", "one"]
    assert lines[1].split()[3] == "rejected"
    assert str(file) in lines[3]
    of_customer = command("list", *api, "--customer", "acme").stdout.splitlines()
    assert [line.split()[0] for line in of_customer] == ["request", "empty"]
    assert len(json.loads(command("list", *api, "--json", "--limit", 2).stdout)) == 2
    assert str(file) in command("status", "one", *api).stdout
    assert command("status", "two", *api).returncode == 1
    got = command("get", "one", *api, cwd=tmp_path)
    assert got.stdout == f"{file.name}\n"
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    again = command("get", "one", *api, cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    assert command("get", "one", *api, "-w", tmp_path / "x.pcap").returncode == 0
    assert numbers(tmp_path / "x.pcap") == list(range(20))
    assert "no savefile" in command("get", "empty", *api).stderr
    file.unlink()
    gone = command("get", "one", *api, "-w", tmp_path / "y.pcap")
    assert (gone.returncode, "does not have the savefile" in gone.stderr) == (1, True)
    assert not (tmp_path / "y.pcap").exists()
    gone = command("get", "one", *api, "-w", tmp_path / "x.pcap")
    assert gone.returncode == 1
    assert numbers(tmp_path / "x.pcap") == list(range(20)), "what was there is still there"
    assert sorted(one.name for one in tmp_path.glob("*.pcap")) == sorted(["x.pcap", file.name])
    assert not list(tmp_path.glob(".pcapdaemon-*"))


def test_a_request_writes_its_savefile_here(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "mine.pcap"
    sending = wire.sending(10**9, rate=200)
    url = ("--url", f"http://127.0.0.1:{daemon.port}", "-i", wire.far)
    try:
        done = command(
            "request", *url, "--flow", "10.99.0.2,10.99.0.1:9000", "--packets", 5, "-w", file
        )
    finally:
        sending.kill()
        sending.wait()
    assert done.returncode == 0, done.stderr
    assert len(numbers(file)) == 5
    sending = wire.sending(10**9, rate=200)
    try:
        words = ["request", *url, "--packets", "5", "-w", "-"]
        piped = subprocess.run([PCAPDAEMON, *words], capture_output=True, check=True)
    finally:
        sending.kill()
        sending.wait()
    (tmp_path / "piped.pcap").write_bytes(piped.stdout)
    assert len(numbers(tmp_path / "piped.pcap")) == 5
    none = command("request", *url, "--flow", "10.99.0.9,10.99.0.1", "--duration", 1, "-w", file)
    assert (none.returncode, "no savefile" in none.stderr) == (1, True)
    assert "empty" in none.stdout
    both = command("request", *url, "--no-wait", "-w", file)
    assert (both.returncode, "-w needs" in both.stderr) == (2, True)


def test_savefiles_that_are_left_are_fetched(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    daemon.request(interface=[wire.far, wire.near], id="two", packets=5)
    eventually(lambda: len(daemon.logged("capture started", id="two")) == 2)
    wire.send(5)
    eventually(lambda: daemon.logged("request finished", id="two"))
    gone, kept = (Path(one["file_name"]) for one in daemon.record("two")["captures"])
    (daemon.captures / gone).unlink()
    api = ("--url", f"http://127.0.0.1:{daemon.port}")
    got = command("get", "two", *api, cwd=tmp_path)
    assert (got.returncode, got.stdout) == (1, f"{kept}\n")
    assert str(gone) in got.stderr
    assert numbers(tmp_path / kept) == list(range(5))
    pipe = command("get", "two", *api, "-w", "/dev/null", cwd=tmp_path)
    assert "names one file" in pipe.stderr
