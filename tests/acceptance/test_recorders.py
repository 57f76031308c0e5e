"""The recorder, used like its users do: configuration, API, commands, metrics, reload."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.capture.session import NO_RECORDER
from pcapdaemon.savefile.packing import NO_ROOM
from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.helpers import Wire, eventually, numbers, tshark
from tests.servers import PCAPDAEMON, DaemonProcess

MIB = 1 << 20


def recorders(daemon: DaemonProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.api("GET", "/recorders").json()
    return found


def with_recorder(make: Make, wire: Wire, **more: Any) -> DaemonProcess:
    daemon = make({"recorder 1": {"interface": wire.far, "memory": 16 * MIB}, **more}).start()
    eventually(lambda: recorders(daemon)[0]["recording"])
    return daemon


def test_an_alert_that_comes_late_still_gets_what_caused_it(make: Make, wire: Wire) -> None:
    daemon = with_recorder(make, wire)
    wire.send(50)
    time.sleep(0.3)
    reported = daemon.request(
        wait=True, interface=[wire.far], lookback=5, timeout=1, bpf="udp"
    ).json()["captures"][0]
    assert (
        reported["state"],
        reported["stop_reason"],
        reported["packets"],
        reported["complete"],
    ) == (
        "delivered",
        "idle",
        50,
        True,
    )
    assert numbers(Path(reported["delivered"]["local"]["where"])) == list(range(50))
    past = reported["lookback"]
    assert (past["asked"], past["packets"], past["reason"]) == (5, 50, "the recorder began later")
    assert 0.3 < past["covered"] < 5
    assert reported["first_packet_at"] < reported["trigger"] < time.time()
    (stopped,) = daemon.reported("capture stopped", 1)
    assert stopped["lookback"] == past
    metrics = daemon.api("GET", "/metrics").text
    for name, value in (
        ("recording", 1),
        ("packets", 50),
        ("dropped_packets", 0),
        ("memory_bytes", 16 * MIB),
        ("captures", 0),
    ):
        found = re.search(rf'pcapdaemon_recorder_{name}{{interface="{wire.far}"}} (\S+)', metrics)
        assert found, name
        assert float(found[1]) == value, name


def test_captures_share_the_one_socket_and_memory_stays_within_both_budgets(
    make: Make, wire: Wire
) -> None:
    daemon = with_recorder(make, wire, general={"memory": 64 * MIB})
    before = daemon.resident()
    for n in range(20):
        daemon.request(interface=[wire.far], id=f"r{n}", bpf=f"udp dst port {9000 + n}", timeout=2)
    eventually(lambda: recorders(daemon)[0]["captures"] == 20)
    wire.send(50_000, size=1000, rate=10_000, ports=20)
    for n in range(20):
        eventually(partial(_is_finished, daemon, f"r{n}"))
    records = [daemon.record(f"r{n}")["captures"][0] for n in range(20)]
    assert [r["dropped"] for r in records] == [0] * 20
    assert sum(r["packets"] for r in records) == 50_000
    assert daemon.resident() - before < (64 + 80) * MIB
    assert recorders(daemon)[0]["bytes"] <= 16 * MIB


def _is_finished(daemon: DaemonProcess, request_id: str) -> bool:
    return bool(daemon.record(request_id)["state"] == "finished")


def test_more_than_the_node_allows_is_refused_with_all_else_that_is_wrong(
    daemon: DaemonProcess, wire: Wire
) -> None:
    refused = daemon.request(
        interface=[wire.far], lookback=121, packets=10**9, format="cap", compress="rar"
    )
    assert refused.status_code == 400
    assert {error["field"] for error in refused.json()["errors"]} == {
        "lookback",
        "packets",
        "format",
        "compress",
    }
    assert "[general] maxlookback = 120" in refused.text


def test_a_node_without_a_recorder_captures_and_says_so(daemon: DaemonProcess, wire: Wire) -> None:
    reported = daemon.request(wait=True, interface=[wire.far], lookback=5, timeout=1).json()[
        "captures"
    ][0]
    assert (reported["state"], reported["lookback"]["covered"]) == ("empty", 0)
    assert reported["lookback"]["reason"] == "this interface has no recorder ([[recorder]])"


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"recorder 1": {}}, "[[recorder]] number 1: set exactly one of interface, alias and pods"),
        (
            {"recorder 1": {"interface": "a", "alias": "b"}},
            "set exactly one of interface, alias and pods",
        ),
        (
            {"recorder 1": {"alias": "wan"}},
            "[[recorder]] number 1 alias: no [[interface]] has the alias wan",
        ),
        (
            {"recorder 1": {"interface": "lo"}, "recorder 2": {"interface": "lo"}},
            "[[recorder]] number 2: lo already has a recorder",
        ),
        ({"recorder 1": {"interface": "lo", "memory": 1000}}, "[[recorder]] number 1 memory"),
        (
            {"recorder 1": {"pods": "a/*", "memory": 64 << 20, "total": 32 << 20}},
            "total (33554432) must be at least memory (67108864)",
        ),
        ({"recorder": {"interface": "lo"}}, "write [[recorder]] for each recorder"),
    ],
)
def test_a_recorder_that_cannot_be_is_refused_at_the_start(
    make: Make, tables: dict[str, Any], words: str
) -> None:
    daemon = make(tables)
    refused = command("run", "--config", daemon.config)
    assert refused.returncode == 2
    assert words in refused.stderr


def test_check_says_what_a_recorder_takes_and_what_it_lacks(make: Make, wire: Wire) -> None:
    tables = {
        "recorder 1": {"interface": wire.far, "seconds": 10},
        "recorder 2": {"interface": "nope0"},
        "recorder 3": {"interface": wire.near, "filter": "port banana"},
    }
    found = command("check", "--config", make(tables).config)
    assert found.returncode == 1
    assert (
        f"ok    recorder {wire.far}: records the last 10 s in at most 67108864 bytes, in addition"
        " to [general] memory" in found.stdout
    )
    assert re.search(r"warn  recorder nope0: .*; it begins when that changes", found.stdout)
    assert re.search(rf"WRONG recorder {wire.near}: .*banana", found.stdout)


def test_an_alias_gives_each_of_its_interfaces_a_recorder_and_one_may_come_later(
    make: Make, wire: Wire
) -> None:
    tables = {
        "interface 1": {"name": wire.far, "alias": ["wan"]},
        "interface 2": {"name": "later0", "alias": ["wan"], "optional": True},
        "recorder 1": {"alias": "wan", "memory": 8 * MIB},
    }
    daemon = make(tables).start()
    eventually(lambda: [one["recording"] for one in recorders(daemon)] == [True, False])
    assert "No such device" in recorders(daemon)[1]["reason"]
    eventually(lambda: daemon.logged("recorder does not record", interface="later0"))
    subprocess.run(
        ["ip", "link", "add", "later0", "type", "veth", "peer", "name", "later1"], check=True
    )
    subprocess.run(["ip", "link", "set", "later0", "up"], check=True)
    eventually(lambda: recorders(daemon)[1]["recording"])
    eventually(lambda: daemon.logged("recorder records", interface="later0"))
    subprocess.run(["ip", "link", "del", "later0"], check=True)
    eventually(lambda: not recorders(daemon)[1]["recording"])
    assert daemon.stop() == 0


def test_a_reload_leaves_captures_to_the_recorder_that_they_read_from(
    make: Make, wire: Wire
) -> None:
    daemon = with_recorder(make, wire)
    daemon.request(interface=[wire.far], id="long", packets=20)
    eventually(lambda: recorders(daemon)[0]["captures"] == 1)
    wire.send(10)
    daemon.write_config({"recorder 1": {"interface": wire.far, "memory": 8 * MIB, "seconds": 5}})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: recorders(daemon)[0]["seconds"] == 5 and recorders(daemon)[0]["recording"])
    wire.send(10)
    eventually(lambda: daemon.record("long")["state"] == "finished")
    reported = daemon.record("long")["captures"][0]
    assert (reported["stop_reason"], reported["packets"]) == ("packets", 20)
    daemon.write_config({})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: recorders(daemon) == [])
    eventually(partial(_no_sockets_but_lo_s, daemon))
    assert daemon.stop() == 0


def _no_sockets_but_lo_s(daemon: DaemonProcess) -> bool:
    return len(Path("/proc/net/packet").read_text().splitlines()) == 1


def test_recorders_as_a_table_as_json_and_live(make: Make, wire: Wire) -> None:
    daemon = with_recorder(make, wire)
    wire.send(100)
    table = command("recorders", "--config", daemon.config)
    assert table.stdout.splitlines()[0].split()[:3] == ["interface", "covered", "memory"]
    assert re.search(rf"{wire.far}\s+[\d.]+/120 s\s+[\d.]+ KiB\s+100", table.stdout)
    found = json.loads(command("recorders", "--config", daemon.config, "--json").stdout)
    assert found[0]["recorders"][0]["interface"] == wire.far
    main, terminal = pty.openpty()
    live = subprocess.Popen(
        [PCAPDAEMON, "recorders", "--config", daemon.config],
        stdout=terminal,
        env={"COLUMNS": "200"},
    )
    seen = b""
    while seen.count(b"CPU%") < 2 or not re.search(rb"100 +\d+ +\d\.\d +0", seen):
        seen += os.read(main, 65536)
    live.send_signal(signal.SIGINT)
    assert live.wait(10) == 0
    assert b"Traceback" not in seen


def test_capture_with_a_lookback_asks_the_daemon_and_copies_the_file(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = with_recorder(make, wire)
    wire.send(30)
    time.sleep(0.2)
    words = (
        "capture",
        "-i",
        wire.far,
        "--lookback",
        10,
        "--timeout",
        1,
        "-w",
        tmp_path / "mine.pcap",
        "--config",
        daemon.config,
    )
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"lookback [\d.]+ of 10 s, 30 packets: the recorder began later", done.stderr)
    assert numbers(tmp_path / "mine.pcap") == list(range(30))
    alone = command("capture", "-i", wire.far, "--lookback", 10, "--url", "http://127.0.0.1:1")
    assert alone.returncode == 1
    assert "check that a daemon runs there" in alone.stderr


def test_the_command_request_shows_the_lookback(make: Make, wire: Wire) -> None:
    daemon = with_recorder(make, wire)
    wire.send(5)
    words = (
        "request",
        "-i",
        wire.far,
        "--lookback",
        5,
        "--timeout",
        1,
        "--json",
        "--config",
        daemon.config,
    )
    assert json.loads(command(*words).stdout)["captures"][0]["lookback"]["packets"] == 5


def test_a_compressed_pcapng_that_begins_before_its_request(make: Make, wire: Wire) -> None:
    daemon = with_recorder(
        make, wire, general={"format": "pcapng", "compress": "zstd", "allow_packetdebug": True}
    )
    wire.send(20)
    time.sleep(0.2)
    reported = daemon.request(
        wait=True,
        interface=[wire.far],
        lookback=5,
        timeout=1,
        packetdebug=True,
        sha256=True,
        id="x",
    ).json()["captures"][0]
    path = Path(reported["delivered"]["local"]["where"])
    assert path.name.endswith(".pcapng.zst")
    assert [row[0] for row in tshark(path, "frame.number")] == [str(n) for n in range(1, 21)]
    assert reported["content"]["compression"] == "zstd"
    assert reported["sha256"] != reported["content"]["sha256"]
    daemon.reported("packet", 20, id="x")
    plain = daemon.request(
        wait=True, interface=[wire.far], lookback=5, timeout=1, format="pcap", compress="none"
    ).json()
    assert plain["captures"][0]["file_name"].endswith(".pcap")


def test_several_interfaces_become_one_file_that_goes_where_all_go(make: Make, wire: Wire) -> None:
    daemon = make({"recorder 1": {"interface": wire.far, "memory": 8 * MIB}}).start()
    eventually(lambda: recorders(daemon)[0]["recording"])
    wire.send(10)
    time.sleep(0.2)
    message: dict[str, Any] = {
        "interface": [wire.far, wire.near],
        "merge": True,
        "lookback": 5,
        "timeout": 1,
        "bpf": "udp",
        "id": "m",
    }
    refused = daemon.request(**message, format="pcap")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "merge")
    assert daemon.request(**message, dryrun=True).json()["state"] == "dryrun"
    daemon.request(**message)
    eventually(lambda: daemon.record("m")["captures"][0]["state"] == "running")
    wire.send(5)
    eventually(partial(_is_finished, daemon, "m"))
    (reported,) = daemon.record("m")["captures"]
    assert (reported["interface"], reported["state"]) == (f"{wire.far}+{wire.near}", "delivered")
    assert (
        reported["lookback"]["reason"]
        == f"{wire.far}: the recorder began later; {wire.near}: {NO_RECORDER}"
    )
    rows = tshark(Path(reported["delivered"]["local"]["where"]), "frame.interface_name")
    assert [row[0] for row in rows].count(wire.far) == 15
    assert [row[0] for row in rows].count(wire.near) == 5


def test_capture_merges_into_the_file_that_is_named(wire: Wire, tmp_path: Path) -> None:
    words = (
        "capture",
        "-i",
        wire.far,
        "-i",
        wire.near,
        "--merge",
        "--bpf",
        "udp",
        "--packets",
        6,
        "-w",
        tmp_path / "x.pcapng",
    )
    capturing = subprocess.Popen([PCAPDAEMON, *map(str, words)], stderr=subprocess.PIPE)
    assert capturing.stderr
    assert b"capturing on" in capturing.stderr.readline()
    wire.send(3)
    capturing.communicate(timeout=20)
    assert capturing.returncode == 0
    assert sorted(
        row[0] for row in tshark(tmp_path / "x.pcapng", "frame.interface_name")
    ) == sorted([wire.far, wire.near] * 3)


def test_a_lookback_leaves_memory_to_others(make: Make, wire: Wire) -> None:
    daemon = with_recorder(make, wire, general={"memory": 16 * MIB, "snaplength": 2000})
    wire.send(8_000, size=1400, rate=20_000)
    daemon.request(interface=[wire.far], lookback=20, id="greedy")
    eventually(lambda: daemon.record("greedy")["captures"][0]["state"] == "running")
    metrics = daemon.api("GET", "/metrics").text
    (used,) = re.findall(r"\npcapdaemon_memory_used_bytes (\S+)", metrics)
    assert float(used) <= 9 * MIB
    assert (
        daemon.request(wait=True, interface=["lo"], bpf="udp port 9", timeout=1).json()["captures"][
            0
        ]["state"]
        == "empty"
    )
    daemon.api("DELETE", "/captures/greedy")
    eventually(partial(_is_finished, daemon, "greedy"))
    reported = daemon.record("greedy")["captures"][0]["lookback"]
    assert reported["reason"].endswith(NO_ROOM)
    assert reported["packets"] > 5000


def test_a_daemon_with_a_recorder_ends_quietly(make: Make, wire: Wire) -> None:
    daemon = with_recorder(make, wire)
    daemon.request(interface=[wire.far], id="one", timeout=60)
    eventually(lambda: daemon.logged("capture started", id="one"))
    assert daemon.stop() == 0
    lines = daemon.log_path.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
