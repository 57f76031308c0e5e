"""The commands, run as people type them."""

import json
import os
import pty
import signal
import socket
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.contracts.sources import Shared
from tests.helpers import Wire, eventually, numbers, tshark
from tests.servers import PCAPDAEMON, DaemonProcess, RedisServer


def command(
    *words: object, cwd: Path | None = None, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(
        [PCAPDAEMON, *map(str, words)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def begun(*words: object, **more: Any) -> "subprocess.Popen[bytes]":
    process: subprocess.Popen[bytes] = subprocess.Popen([PCAPDAEMON, *map(str, words)], **more)
    return process


def capturing(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the command prints that it captures."""
    assert process.stderr
    line = process.stderr.readline()
    assert line.startswith(b"capturing on"), line


def test_capture_to_stdout_goes_into_tcpdump(wire: Wire) -> None:
    ours = begun(
        "capture",
        "-i",
        wire.far,
        "--packets",
        5,
        "-w",
        "-",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    theirs = subprocess.Popen(
        ["tcpdump", "-nr", "-"],
        stdin=ours.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with ours, theirs:
        capturing(ours)
        wire.send(9)
        out, _ = theirs.communicate(timeout=20)
    assert len(out.splitlines()) == 5
    assert b"10.99.0.1.9000 > 10.99.0.2" in out
    assert (ours.returncode, theirs.returncode) == (0, 0)


def test_capture_into_the_pipe_of_a_reader_that_has_seen_enough(wire: Wire) -> None:
    line = (
        f"{PCAPDAEMON} capture -i {wire.far} --packets 20000 -w - | head -c 10 >/dev/null; exit"
        " ${PIPESTATUS[0]}"
    )
    shell = subprocess.Popen(["bash", "-c", line], stderr=subprocess.PIPE)
    capturing(shell)
    wire.send(20_000, size=500)
    _, errors = shell.communicate(timeout=20)
    assert b"Traceback" not in errors
    assert shell.returncode == 1


def test_capture_into_one_file_from_several_interfaces_is_refused(
    wire: Wire, tmp_path: Path
) -> None:
    result = command("capture", "-i", wire.far, "-i", "lo", "-w", tmp_path / "x.pcap")
    assert result.returncode == 2
    assert "2 interfaces" in result.stderr
    assert not (tmp_path / "x.pcap").exists()


def test_capture_into_a_file_that_cannot_be_written_is_refused_before_it_begins(wire: Wire) -> None:
    result = command(
        "capture", "-i", wire.far, "-w", "/no/such/x.pcap", "--duration", 3600, "--timeout", 3600
    )
    assert (result.returncode, "/no/such/x.pcap: No such file" in result.stderr) == (2, True)


def test_capture_that_gives_nothing_leaves_no_empty_file(wire: Wire, tmp_path: Path) -> None:
    for words in (["-i", wire.far, "--duration", "1"], ["-i", "nope"]):
        command("capture", *words, "-w", tmp_path / "x.pcap")
        assert list(tmp_path.iterdir()) == []


def test_request_ends_what_it_started_at_control_c(daemon: DaemonProcess, wire: Wire) -> None:
    url = f"http://127.0.0.1:{daemon.port}"
    asking = begun(
        "request",
        "--url",
        url,
        "-i",
        wire.far,
        "--json",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    capturing(asking)
    wire.send(6)
    asking.send_signal(signal.SIGINT)
    out, err = asking.communicate(timeout=10)
    assert asking.returncode == 0, err
    capture = json.loads(out)["captures"][0]
    assert (capture["stop_reason"], capture["packets"], capture["state"]) == (
        "stopped",
        6,
        "delivered",
    )


@pytest.mark.parametrize(
    "body", ['{"node":"any","packets":NaN}', '{"node":"any","customer":"\\ud800"}']
)
def test_request_sends_odd_things_as_they_are_and_shows_the_answer(
    daemon: DaemonProcess, body: str
) -> None:
    result = command(
        "request", "--url", f"http://127.0.0.1:{daemon.port}", "--message", "-", stdin=body
    )
    assert result.returncode == 1
    assert "error:" in result.stderr


def test_capture_to_a_file_until_control_c(wire: Wire, tmp_path: Path) -> None:
    ours = begun(
        "capture",
        "-i",
        wire.far,
        "-w",
        tmp_path / "x.pcap",
        "--json",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    capturing(ours)
    wire.send(12)
    ours.send_signal(signal.SIGINT)
    out, _ = ours.communicate(timeout=10)
    assert ours.returncode == 0
    result = json.loads(out)[0]
    assert (result["stop_reason"], result["packets"], result["state"]) == (
        "stopped",
        12,
        "delivered",
    )
    assert numbers(tmp_path / "x.pcap") == list(range(12))


def test_capture_without_a_file_goes_where_the_configuration_says(
    wire: Wire, tmp_path: Path
) -> None:
    ours = begun(
        "capture",
        "-i",
        wire.far,
        "--packets",
        3,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    capturing(ours)
    wire.send(3)
    out, _ = ours.communicate(timeout=10)
    path = next((tmp_path / "captures").iterdir())
    assert str(path) in out.decode()
    assert numbers(path) == [0, 1, 2]


def test_capture_shows_live_counters_on_a_terminal(wire: Wire, tmp_path: Path) -> None:
    terminal, child = pty.openpty()
    ours = begun(
        "capture",
        "-i",
        wire.far,
        "--packets",
        8,
        "-w",
        tmp_path / "x.pcap",
        stdout=subprocess.DEVNULL,
        stderr=child,
    )
    os.close(child)
    seen = bytearray()

    def watch() -> None:
        try:
            while data := os.read(terminal, 1000):
                seen.extend(data)
        except OSError:
            return  # EIO: the other end is closed

    watching = threading.Thread(target=watch)
    watching.start()
    eventually(lambda: b"capturing on" in seen)
    wire.send(5)
    eventually(lambda: b"running 5 packets" in seen)
    wire.send(3)
    assert ours.wait(10) == 0
    watching.join()
    os.close(terminal)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["capture"], "interface: must be present; give interface or alias"),
        (["capture", "-i", "nope"], "nope: no such interface on this node"),
        (["capture", "-i", "lo", "--bpf", "portt"], "syntax error"),
        (["capture", "-i", "lo", "--packets", "9999999999999"], "maxpackets"),
        (["run", "--config", "/no/such"], "/no/such: No such file"),
        (["run", "--maxpackets", "5"], "no source is turned on"),
        (["-config", "/no/such"], "/no/such: No such file"),
        (["check", "--config", "/no/such"], "/no/such: No such file"),
        (["request", "--message", "/no/such"], "No such file"),
        (["request", "--message", "-"], "must be a JSON object"),
        (["nonsense"], "No such command"),
        (["capture", "--packets", "x"], "--packets"),
    ],
)
def test_mistakes_are_said_in_words_with_status_2(
    words: list[str], reported: str, tmp_path: Path
) -> None:
    result = command(*words, cwd=tmp_path, stdin="[]")
    assert result.returncode == 2
    assert reported in result.stderr
    assert result.stdout == ""


def test_a_daemon_that_is_not_there_is_said_with_a_hint() -> None:
    result = command("request", "-i", "lo", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "error: http://127.0.0.1:9" in result.stderr
    assert "hint: check that a daemon runs there" in result.stderr


def test_request_by_http_waits_for_the_result_and_shows_it(
    daemon: DaemonProcess, wire: Wire
) -> None:
    url = f"http://127.0.0.1:{daemon.port}"
    asking = begun(
        "request", "--url", url, "-i", wire.far, "-c", 4, "--id", "asked", stdout=subprocess.PIPE
    )
    eventually(lambda: daemon.record("asked").get("captures", [{}])[0].get("state") == "running")
    wire.send(4)
    out, _ = asking.communicate(timeout=10)
    assert asking.returncode == 0
    assert "delivered" in out.decode()
    assert "asked.pcap" in out.decode()


def test_request_that_is_refused_shows_every_problem(daemon: DaemonProcess) -> None:
    result = command(
        "request",
        "--url",
        f"http://127.0.0.1:{daemon.port}",
        "-c",
        "999999",
        "--nodere",
        "(",
        "-i",
        "nope",
    )
    assert result.returncode == 1
    for part in ("packets: 999999 is more", "nodere: not a valid RE2", "interface: nope"):
        assert f"error: {part}" in result.stderr


def test_request_from_a_file_without_waiting(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"node": "any", "interface": [wire.far], "id": "file"}))
    result = command(
        "request",
        "--url",
        f"http://127.0.0.1:{daemon.port}",
        "--message",
        path,
        "--no-wait",
        "--json",
    )
    assert json.loads(result.stdout)["state"] == "running"
    assert daemon.record("file")["state"] == "running"


def test_request_over_redis_says_how_many_heard_it(make: Make, tmp_path: Path, wire: Wire) -> None:
    redis = RedisServer(tmp_path).start()
    words = (
        "request",
        "--redis",
        f"redis://127.0.0.1:{redis.port}",
        "--node",
        "any",
        "-i",
        wire.far,
        "--id",
        "r",
        "--json",
    )
    assert command(*words).returncode == 1, "nobody receives it"
    daemon = make({"redis": {"listen": True, "host": "127.0.0.1", "port": redis.port}}).start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    assert json.loads(command(*words).stdout)["subscribers"] == 1
    eventually(lambda: daemon.record("r").get("state") == "running")
    redis.kill()


def test_interfaces_as_a_table_and_as_json(wire: Wire, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        "[http]\nlisten = true\n[general]\nwritelocal = true\n[[interface]]\nname ="
        f' "{wire.far}"\nalias = ["wan"]'
    )
    rows = {
        row["name"]: row
        for row in json.loads(
            command("interfaces", "--json", "--config", config, cwd=tmp_path).stdout
        )
    }
    assert rows[wire.far]["aliases"] == ["wan"]
    assert (
        rows["lo"]["state"],
        rows["lo"]["linktype"],
        "127.0.0.1" in rows["lo"]["addresses"],
    ) == ("up", "EN10MB", True)
    assert rows["any"]["linktype"] == "LINUX_SLL"
    table = command("interfaces", cwd=tmp_path).stdout
    assert wire.far in table


def test_check_finds_everything_that_is_wrong(wire: Wire, tmp_path: Path) -> None:
    config, request = tmp_path / "c.toml", tmp_path / "r.json"
    config.write_text(
        '[redis]\nlisten = true\nhost = "127.0.0.1"\nport = 9\n'
        '[general]\nwritelocal = true\nlocaldir = "/no/such/dir"\n[[interface]]\nname = "nope0"\n'
    )
    request.write_text(
        json.dumps({"node": "any", "interface": [wire.far, "nope1"], "bpf": "portt 1"})
    )
    result = command("check", "--config", config, "--request", request, cwd=tmp_path)
    assert result.returncode == 1
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 5
    for part in (
        "[[interface]] nope0",
        "source redis",
        "destination local",
        "nope1",
        "syntax error",
    ):
        assert any(part in line for line in wrong), part
    as_json = json.loads(
        command("check", "--config", config, "--request", request, "--json", cwd=tmp_path).stdout
    )
    assert [finding["good"] for finding in as_json].count(False) == 5


def test_check_knows_a_daemon_from_a_stranger_on_its_port(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    assert (
        "a daemon already listens on"
        in command("check", "--config", daemon.config, cwd=tmp_path).stdout
    )
    daemon.stop()
    assert "is free" in command("check", "--config", daemon.config, cwd=tmp_path).stdout
    with socket.create_server(("127.0.0.1", daemon.port)):
        result = command("check", "--config", daemon.config, cwd=tmp_path)
    assert (result.returncode, "Address already in use" in result.stdout) == (1, True)


def test_check_of_what_is_right(wire: Wire, tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text(json.dumps({"node": "any", "interface": [wire.far], "bpf": "udp port 53"}))
    result = command("check", "--request", request, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "WRONG" not in result.stdout


@pytest.mark.parametrize("name", ["run", "capture", "check", "interfaces", "request"])
def test_every_command_has_an_example(name: str) -> None:
    assert f"Example: pcapdaemon {name}" in command(name, "--help").stdout


def test_help_says_that_panic_does_nothing() -> None:
    assert "Ignored" in command("run", "--help").stdout


def test_version_and_completion() -> None:
    assert command("--version").stdout.startswith("pcapdaemon ")
    completion = {
        "_PCAPDAEMON_COMPLETE": "complete_bash",
        "COMP_WORDS": "pcapdaemon in",
        "COMP_CWORD": "1",
    }
    result = subprocess.run(
        [PCAPDAEMON], env={**os.environ, **completion}, capture_output=True, text=True, check=False
    )
    assert "interfaces" in result.stdout


def settings_file(path: Path, section: str, **values: Any) -> str:
    path.write_text(
        f"[{section}]\n"
        + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    )
    return str(path)


def test_request_over_each_bus_is_followed_on_all_nodes_to_its_end(
    make: Make, shared: Shared, tmp_path: Path, wire: Wire
) -> None:
    redis = RedisServer(tmp_path).start()
    shared.kafka.create("asked")
    shared.kafka.create("answered")
    account = {
        "endpoint": shared.moto.url,
        "region": "us-east-1",
        "accessid": "test",
        "accesskey": "test",
        "waitseconds": 1,
    }
    for queue in ("asked-of-a", "answered"):
        shared.moto.queue(queue)
    buses: dict[str, dict[str, Any]] = {
        "kafka": {"server": shared.kafka.address, "topic": "asked", "results": "answered"},
        "redis": {"host": "127.0.0.1", "port": redis.port, "results": "answered"},
        "sqs": {"queue": "asked-of-{node}", "results": "answered", **account},
    }
    sections = {name: {"listen": True, **values} for name, values in buses.items()}
    nodes = [make({**sections, "general": {"node": "a"}}).start()]
    without_sqs = {name: table for name, table in sections.items() if name != "sqs"}
    nodes.append(make({**without_sqs, "general": {"node": "b"}}).start())
    for node in nodes:
        eventually(partial(lambda one: one.api("GET", "/readyz").status_code == 200, node), 20)
    for name, values in buses.items():
        there = {**values, "queue": "asked-of-a"} if name == "sqs" else values
        config = settings_file(tmp_path / f"{name}.toml", name, **there)
        words = (
            "request",
            "--via",
            name,
            "--config",
            config,
            "--node",
            "any",
            "-i",
            wire.far,
            "--timeout",
            "1",
            "--wait",
            "4",
        )
        result = command(*words, "--id", f"by {name}", "--json")
        assert result.returncode == 0, result.stderr
        records = json.loads(result.stdout)
        assert sorted(record["node"] for record in records) == (
            ["a"] if name == "sqs" else ["a", "b"]
        )
        assert {
            (record["state"], record["final"], record["captures"][0]["state"]) for record in records
        } == {("finished", True, "empty")}
        assert "starting" in result.stderr or "running" in result.stderr
        one = command(
            "request",
            "--via",
            name,
            "--config",
            config,
            "--node",
            "a",
            "-i",
            "nowhere0",
            "--wait",
            "10",
        )
        assert one.returncode == 1
        assert "no such interface" in one.stdout, "of one named node the first answer is all"
    reported = command(
        "request",
        "--via",
        "redis",
        "--config",
        str(tmp_path / "redis.toml"),
        "--list",
        "--node",
        "a",
        "--wait",
        "10",
    )
    assert reported.returncode == 0
    assert "running" in reported.stdout
    redis.kill()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--via", "pigeon"), 2, "must be one of http, kafka, redis, sqs"),
        (("--via", "redis", "--label", "edge"), 2, "NAME=GLOB"),
        (("--via", "sqs"), 2, "url or queue"),
        (("--redis", "redis://127.0.0.1:1"), 1, "redis://127.0.0.1:1 channel capture"),
        (("--redis", "127.0.0.1:1"), 2, "must be a URL"),
    ],
)
def test_request_says_what_is_wrong_with_its_bus(
    words: tuple[str, ...], status: int, said: str
) -> None:
    result = command("request", *words, "--node", "any", "-i", "lo")
    assert result.returncode == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_sources_prune(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path).start()
    with redis.client() as client:
        client.xgroup_create("requests", "pcapdaemon-gone", mkstream=True)
        client.xgroup_createconsumer("requests", "pcapdaemon-gone", "gone")
    config = settings_file(
        tmp_path / "redis.toml", "redis", host="127.0.0.1", port=redis.port, stream="requests"
    )
    assert (
        "would be removed: pcapdaemon-gone"
        in command("sources", "prune", "--config", config, "--idle", "0", "--dry-run").stdout
    )
    assert "removed" not in command("sources", "prune", "--config", config).stdout, "a week"
    assert (
        "removed: pcapdaemon-gone"
        in command("sources", "prune", "--config", config, "--idle", "0").stdout
    )
    with redis.client() as client:
        assert client.xinfo_groups("requests") == []
    redis.kill()
    refused = command(
        "sources", "prune", "--config", settings_file(tmp_path / "x.toml", "redis", host="x")
    )
    assert (refused.returncode, "stream is not set" in refused.stderr) == (2, True)
    away = command("sources", "prune", "--config", config)
    assert (away.returncode, "Traceback" in away.stderr) == (1, False)


def test_capture_is_used_like_tcpdump(wire: Wire, tmp_path: Path) -> None:
    words = [
        "capture",
        "-n",
        "-i",
        wire.far,
        "-c",
        "5",
        "-w",
        "x.pcapng",
        "udp",
        "and",
        "port",
        "9000",
    ]
    process = subprocess.Popen(
        [PCAPDAEMON, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    assert "snapshot length 262144" in process.stderr.readline()
    wire.send(5, size=1400)
    assert process.wait(20) == 0
    process.stderr.close()
    rows = tshark(tmp_path / "x.pcapng", "frame.cap_len")
    assert rows == [["1400"]] * 5
    assert (tmp_path / "x.pcapng").read_bytes()[:4] == b"\n\r\r\n"


def test_an_empty_capture_has_a_status_of_its_own(wire: Wire, tmp_path: Path) -> None:
    words = ["capture", "-i", wire.far, "--duration", "1s", "-w", "x.pcap", "icmp"]
    result = command(*words, cwd=tmp_path)
    assert (result.returncode, "no packet was captured" in result.stderr) == (3, True)
    assert not (tmp_path / "x.pcap").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--duration", "5 parsecs"], "a time like"),
        (["-s", "1XB"], "a size like"),
        (["--bpf", "udp", "tcp"], "not both"),
    ],
)
def test_wrong_units_and_two_filters_are_refused(words: list[str], problem: str) -> None:
    result = command("capture", "-i", "lo", *words)
    assert result.returncode == 2
    assert problem in result.stderr.replace("\n", " ")


def test_help_has_a_short_letter() -> None:
    for words in (["-h"], ["capture", "-h"], ["spool", "list", "-h"]):
        result = command(*words)
        assert (result.returncode, "Usage" in result.stdout) == (0, True)


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_closed_streams_end_in_words(stream: str) -> None:
    shell = f"{PCAPDAEMON} interfaces {stream}"
    result = subprocess.run(["sh", "-c", shell], check=False, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert result.returncode == (2 if stream == ">&-" else 0)
