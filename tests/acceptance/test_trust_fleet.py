"""A fleet that takes only signed requests: 200 signed ones, and as many hostile ones."""

import json
import random
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import eventually
from tests.servers import PCAPDAEMON, DaemonProcess, RedisServer
from tests.signing import Signer, moment

NODES, REQUESTS = 20, 200
ALICE, STRANGER = Signer("alice"), Signer("stranger")


def fleet(redis: RedisServer, directory: Path) -> list[DaemonProcess]:
    made = []
    for n in range(NODES):
        own = directory / f"node-{n:02}"
        own.mkdir()
        tables: dict[str, Any] = {
            "general": {"node": own.name, "signatures": "require", "statedir": str(own / "state")},
            "redis": {"listen": True, "host": "127.0.0.1", "port": redis.port},
            "trust": {"audience": "prod"},
            "audit": {"file": str(own / "audit.jsonl")},
            "requester 1": {"name": "alice", "keys": [ALICE.line], "maxpackets": 5},
            "requester 2": {"name": "local"},
        }
        made.append(DaemonProcess(own, tables))
    return made


def hostile(message: dict[str, Any], n: int) -> dict[str, Any]:
    """Return a message that nobody may obey. `message` is one that alice signed."""
    plain = {name: value for name, value in message.items() if name != "jws"}
    other = ALICE.message({**plain, "id": f"other{n}", "audience": "test"})
    kinds = [
        plain,  # unsigned
        STRANGER.message({**plain, "audience": "prod"}),
        ALICE.message({**plain, "id": f"stale{n}", "audience": "prod", "issued_at": moment(-90)}),
        other,  # for another fleet
        {**plain, "id": f"split{n}", "jws": message["jws"][:-4] + "AAAA"},
        {**plain, "id": f"again{n}", "jws": message["jws"]},  # replayed, with another outside
    ]
    return kinds[n % len(kinds)]


@pytest.mark.timeout(600)
def test_a_fleet_does_what_is_signed_once_and_nothing_else(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path).start()
    nodes = fleet(redis, tmp_path)
    chance, sent, meant = random.Random(15), [], Counter[tuple[str, str]]()
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            eventually(partial(node.logged, "source connected", source="redis"), 60)
        with redis.client() as client:
            for n in range(REQUESTS):
                name = f"node-{chance.randrange(NODES):02}"
                fields = {"id": f"r{n}", "node": name, "interface": ["lo"], "audience": "prod"}
                message = ALICE.message(
                    {**fields, "packets": 1, "duration": 1, "dryrun": n % 4 > 0}
                )
                meant[name, "request tried out" if n % 4 else "request accepted"] += 1
                sent.append(message)
                client.publish("capture", json.dumps(message))
                client.publish("capture", json.dumps(hostile(chance.choice(sent), n)))
        for node in nodes:
            eventually(partial(has_done, node, meant), 240)
        for node in nodes:
            check(node, meant)
    finally:
        for node in nodes:
            node.end()
        redis.kill()


def has_done(node: DaemonProcess, meant: "Counter[tuple[str, str]]") -> bool:
    name, log = node.directory.name, Counter(line["event"] for line in node.log())
    return all(log[event] >= number for (who, event), number in meant.items() if who == name)


def check(node: DaemonProcess, meant: "Counter[tuple[str, str]]") -> None:
    """Check that a node did what was meant, once, and recorded everything."""
    assert node.stop() == 0
    name = node.directory.name
    accepted = Counter(line["id"] for line in node.logged("request accepted"))
    assert set(accepted.values()) <= {1}
    assert accepted.total() == meant[name, "request accepted"]
    text = (node.directory / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert Counter(one["id"] for one in lines if one["event"] == "accepted") == accepted
    assert all(one["requester"] == "alice" for one in lines if one["event"] == "accepted")
    command = [str(PCAPDAEMON), "audit", "verify", str(node.directory / "audit.jsonl")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
