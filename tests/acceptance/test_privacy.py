"""What a policy keeps out of savefiles: payload, packets of others, and readers."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.sendrecv import sendp
from scapy.utils import wrpcap

from pcapdaemon.trust.requesters import digest
from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, tshark
from tests.servers import DaemonProcess

SECRET = b"SECRET-OF-SOMEBODY" * 4
TOKEN = "token-of-narrow-0123456789"
BEARER = {"headers": {"Authorization": f"Bearer {TOKEN}"}}


def frames() -> list[Any]:
    """Packets to two ports, untagged and tagged, over UDP and TCP."""
    found = []
    for port in (53, 22):
        for tags in (None, Dot1Q(vlan=7)):
            for transport in (UDP(sport=1000, dport=port), TCP(sport=1000, dport=port)):
                head = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
                head = head / tags if tags else head
                found.append(head / IP(src="10.9.9.1", dst="10.9.9.2") / transport / SECRET)
    return found


def policy(**more: Any) -> dict[str, Any]:
    return {"name": "narrow", "tokens": [digest(TOKEN.encode())], **more}


def captured(
    daemon: DaemonProcess, interface: str, wire: Wire | None, name: str, **more: Any
) -> Path:
    """Capture what `frames` sends, and return the savefile."""
    message = {"node": "any", "interface": [interface], "id": name, "timeout": 1, **more}
    answer = daemon.api("POST", "/captures", json=message, **BEARER)
    assert answer.status_code == 202, answer.text
    if wire:
        sendp(frames(), iface=wire.near, verbose=False)
    eventually(lambda: daemon.logged("request finished", id=name))
    return eventually(lambda: list(daemon.captures.glob(f"[!.]*{name}*")))[0]


BYPASSES = [
    "",
    "udp or tcp",
    "(vlan or not vlan)",
    "ip or (mpls and ip)",
    "vlan or udp or tcp or not ip",
    "not (vlan and not vlan)",
    "pppoes or not pppoes",
    "port 22 or port 53",
]


@pytest.mark.timeout(180)
def test_no_filter_gets_around_that_of_the_policy(make: Make, wire: Wire) -> None:
    daemon = make({"requester 1": policy(filter="udp port 53 or (vlan and udp port 53)")}).start()
    for n, expression in enumerate(BYPASSES):
        path = captured(daemon, wire.far, wire, f"b{n}", bpf=expression, packets=2)
        found = tshark(path, "udp.dstport", "tcp.dstport")
        # what got around the policy would come second; some filters match untagged packets only
        assert {tuple(row) for row in found} == {("53", "")}, expression
    pasted = {"node": "any", "interface": [wire.far], "bpf": "port 80) or (port 22"}
    assert daemon.api("POST", "/captures", json=pasted, **BEARER).status_code == 400


def test_a_filter_of_the_policy_sees_more_than_is_kept(make: Make, wire: Wire) -> None:
    daemon = make({"requester 1": policy(filter="udp port 53")}).start()
    path = captured(daemon, wire.far, wire, "short", snap=14)
    assert tshark(path, "frame.cap_len") == [["14"]] * 2


@pytest.mark.parametrize("more", [{}, {"format": "pcapng"}, {"compress": "gzip"}, {"merge": True}])
def test_payload_is_cut_in_every_format(
    make: Make, wire: Wire, tmp_path: Path, more: dict[str, Any]
) -> None:
    daemon = make({"requester 1": policy(payload="headers")}).start()
    path = captured(daemon, wire.far, wire, "cut", packets=len(frames()), **more)
    cut_well(path, tmp_path)


def cut_well(path: Path, tmp_path: Path) -> None:
    plain = path
    if path.suffix == ".gz":
        plain = tmp_path / "plain"
        unpacked = subprocess.run(["gzip", "-dc", path], check=True, capture_output=True)
        plain.write_bytes(unpacked.stdout)
    assert SECRET[:8] not in plain.read_bytes()
    fields = "frame.len frame.cap_len vlan.id udp.length tcp.len _ws.malformed".split()
    rows = tshark(plain, *fields)
    assert len(rows) == len(frames())
    for frame, row in zip(frames(), rows, strict=True):
        length, captured_length, tag, udp, tcp, malformed = row
        assert int(length) == len(frame)
        assert int(captured_length) == len(frame) - len(SECRET)
        assert tag == ("7" if Dot1Q in frame else "")
        over_udp = UDP in frame
        assert udp == (str(8 + len(SECRET)) if over_udp else "")
        assert tcp == ("" if over_udp else str(len(SECRET)))
        assert not malformed


def test_a_request_may_ask_for_less_itself(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make().start()
    most = {"packets": len(frames())}
    cut_well(captured(daemon, wire.far, wire, "less", payload="headers", **most), tmp_path)
    whole = captured(daemon, wire.far, wire, "whole", payload="full", **most)
    assert SECRET in whole.read_bytes()


def test_a_recorder_gives_no_more_than_the_policy_allows(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make(
        {
            "recorder 1": {"interface": wire.far, "memory": 16 << 20, "snaplen": 2000},
            "requester 1": policy(payload="headers", filter="udp port 53", maxlookback=60),
        }
    ).start()

    def status() -> Any:
        return daemon.api("GET", "/recorders", **BEARER).json()[0]

    eventually(lambda: status()["recording"])
    sendp(frames(), iface=wire.near, verbose=False)
    eventually(lambda: status()["packets"] >= len(frames()))
    path = captured(daemon, wire.far, wire, "past", lookback=60)
    rows = tshark(path, "udp.dstport", "frame.cap_len")
    assert rows == [["53", "42"], ["53", "46"]] * 2  # those from before, and those of later
    assert SECRET[:8] not in path.read_bytes()


def test_a_file_that_is_played_obeys_the_policy_too(make: Make, tmp_path: Path) -> None:
    wrpcap(str(tmp_path / "played.pcap"), frames())
    daemon = make(
        {
            "interface 1": {"name": "demo", "replay": str(tmp_path / "played.pcap")},
            "requester 1": policy(payload="headers", filter="vlan 7 and tcp port 22"),
        }
    ).start()
    path = captured(daemon, "demo", None, "played")
    rows = tshark(path, "tcp.dstport", "vlan.id", "frame.cap_len")
    assert rows == [["22", "7", "58"]]
    assert SECRET[:8] not in path.read_bytes()


def test_savefiles_are_encrypted_wherever_they_go(make: Make, wire: Wire, tmp_path: Path) -> None:
    identity = tmp_path / "identity"
    subprocess.run(["age-keygen", "-o", str(identity)], check=True, capture_output=True)
    line = next(one for one in identity.read_text().splitlines() if "public key" in one)
    recipient = line.rpartition(" ")[2]
    daemon = make(
        {
            "general": {"encrypt_to": [recipient], "compress": "zstd"},
            "spool": {"dir": str(tmp_path / "spool")},
        }
    ).start()
    daemon.lose_directory()  # the savefile waits in the spool
    message = {"node": "any", "interface": [wire.far], "id": "enc", "timeout": 2}
    assert daemon.api("POST", "/captures", json=message, **BEARER).status_code == 202
    sendp(frames(), iface=wire.near, verbose=False)
    spool = tmp_path / "spool"
    spooled = eventually(lambda: [one for one in spool.rglob("*") if one.is_file()])
    assert all(SECRET not in one.read_bytes() for one in spooled)
    daemon.captures.mkdir()
    path = eventually(lambda: list(daemon.captures.glob("[!.]*enc*")), 60)[0]
    assert path.name.endswith(".pcap.zst.age")
    command = f"age -d -i {identity} {path} | zstd -dc"
    plain = subprocess.run(["bash", "-c", command], check=True, capture_output=True).stdout
    assert plain.count(SECRET) == len(frames())
    record = daemon.record("enc")["captures"][0]
    content = record["content"]
    assert (content["encryption"], content["recipients"]) == ("age", 1)
    assert content["sha256"] == "", "nobody asked for it"
    name = record["file_name"]
    answer = daemon.api("GET", f"/captures/enc/files/{name}/packets")
    assert answer.status_code == 422
    assert "it is encrypted" in answer.text


def test_who_encrypts_for_others_is_refused_where_that_is_useless(daemon: DaemonProcess) -> None:
    message = {"node": "any", "interface": ["lo"], "encrypt_to": ["age1nonsense"]}
    answer = daemon.api("POST", "/captures", json=message)
    assert answer.status_code == 400
    assert json.loads(answer.text)["errors"][0]["field"].startswith("encrypt_to")
