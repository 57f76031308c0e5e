"""What is specific to Kafka.

Partitions added later, positions across restarts, credentials, several brokers.
"""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from pcapdaemon.core.errors import ResultRefused
from pcapdaemon.sources.kafka import KafkaSettings, KafkaSource
from tests.contracts.sources import Shared
from tests.helpers import certificates
from tests.kafka_server import KafkaServer, produce
from tests.listen import Ear, listening
from tests.servers import free_port


def source_of(kafka: KafkaServer | str, topic: Any, node: str = "here", **more: Any) -> KafkaSource:
    server = kafka if isinstance(kafka, str) else kafka.address
    settings = {"listen": True, "server": server, "topic": topic, "metadata_refresh": 1, **more}
    return KafkaSource(KafkaSettings.model_validate(settings), node)


async def test_topic_that_grows_from_three_to_six_partitions_under_load(shared: Shared) -> None:
    kafka, topic = shared.kafka, "growing"
    kafka.create(topic, 3)
    producer = kafka.producer()
    for partition in range(3):
        produce(producer, topic, b"before the start", partition=partition)
    sent = [b"%d" % number for number in range(900)]

    def send() -> None:
        producer = kafka.producer()
        for number, body in enumerate(sent):
            if number == 300:
                kafka.grow(topic, 6)
                producer = kafka.producer()
            produce(producer, topic, body, partition=number % (3 if number < 300 else 6))

    async with listening(source_of(kafka, topic)) as ear:
        await asyncio.to_thread(send)
        await ear.until(lambda: len(ear.bodies) >= len(sent), 20)
        await asyncio.sleep(1.5)  # one more refresh: no message may arrive twice
        assert sorted(ear.bodies, key=int) == sent
        assert not ear.losses()


async def test_topic_that_does_not_exist_yet_is_read_from_its_beginning_when_it_does(
    shared: Shared,
) -> None:
    async with listening(source_of(shared.kafka, ["later", "there"])) as ear:
        shared.kafka.create("later")
        produce(shared.kafka.producer(), "later", b"the first")
        await ear.until(lambda: ear.bodies == [b"the first"])


async def test_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning(
    shared: Shared,
) -> None:
    kafka, producer = shared.kafka, shared.kafka.producer()
    kafka.create("again")
    async with listening(source_of(kafka, "again")) as ear:
        produce(producer, "again", b"old")
        await ear.until(lambda: ear.bodies == [b"old"])
        kafka.delete("again")
        await asyncio.sleep(2.5)  # two refreshes: the source has noticed the deletion
        kafka.create("again")
        produce(kafka.producer(), "again", b"new")
        await ear.until(lambda: ear.bodies == [b"old", b"new"])


async def test_with_a_group_what_was_sent_during_a_restart_is_taken_up(shared: Shared) -> None:
    kafka, producer = shared.kafka, shared.kafka.producer()
    kafka.create("grouped")
    async with listening(source_of(kafka, "grouped", group="pcapdaemon-{node}")) as ear:
        produce(producer, "grouped", b"one")
        await ear.until(lambda: ear.bodies == [b"one"])
    produce(producer, "grouped", b"two")
    async with listening(source_of(kafka, "grouped", group="pcapdaemon-{node}")) as ear:
        await ear.until(lambda: ear.bodies == [b"two"])
        assert ear.messages[0].sent_at
        assert ear.messages[0].key
    # without a group it begins with what is sent from now on
    async with listening(source_of(kafka, "grouped")) as ear:
        produce(producer, "grouped", b"three")
        await ear.until(lambda: ear.bodies == [b"three"])


async def test_no_group_is_joined(shared: Shared) -> None:
    kafka = shared.kafka
    kafka.create("groupless")
    async with listening(source_of(kafka, "groupless", group="groupless-{node}")):
        found = kafka.admin.list_consumer_groups().result(10)
        members = [
            group.group_id for group in found.valid if group.state.name not in ("EMPTY", "DEAD")
        ]
        assert members == []


async def test_two_daemons_of_one_name_each_hear_everything(shared: Shared) -> None:
    kafka = shared.kafka
    kafka.create("twins")
    async with (
        listening(source_of(kafka, "twins")) as one,
        listening(source_of(kafka, "twins")) as two,
    ):
        produce(kafka.producer(), "twins", b"hello")
        await one.until(lambda: one.bodies == two.bodies == [b"hello"])


async def test_broker_that_accepts_and_never_answers(shared: Shared) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        ear = Ear(source_of(f"127.0.0.1:{silent.getsockname()[1]}", "capture"))
        await ear.until(ear.losses)
        assert ear.losses()[0].startswith("kafka://127.0.0.1:")
        async with asyncio.timeout(20):
            await ear.end()


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"securty.protocol": "ssl"}, 'No such configuration property: "securty.protocol"'),
        ({"security.protocol": "carrier pigeon"}, "carrier pigeon"),
        ({"group.id": "x"}, "group.id can't be set here"),
        ({"ssl.ca.location": "/does/not/exist", "security.protocol": "ssl"}, "ssl.ca.location"),
        ({"sasl.password_file": "/does/not/exist"}, "sasl.password_file: can't read"),
    ],
)
def test_properties_that_the_client_library_does_not_know_are_errors_at_start(
    client: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match="client") as refusal:
        KafkaSettings.model_validate({"client": client})
    assert words in str(refusal.value)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A Kafka that requires TLS and SASL, with one of three mechanisms."""
    directory = tmp_path_factory.mktemp("guarded")
    certificates(directory)
    command = "pkcs12 -export -in server.pem -inkey server.key -out server.p12 -passout pass:secret"
    subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    port, jaas = free_port(), "org.apache.kafka.common.security"
    more = [
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        f"ssl.keystore.location={directory / 'server.p12'}",
        "ssl.keystore.type=PKCS12",
        "ssl.keystore.password=secret",
        (
            f"listener.name.guarded.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required"
            ' user_node="right";'
        ),
        (
            f"listener.name.guarded.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule"
            " required;"
        ),
        (
            f"listener.name.guarded.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule"
            ' required unsecuredLoginStringClaim_sub="node";'
        ),
    ]
    more += [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ]
    scram = ["--add-scram", "SCRAM-SHA-512=[name=node,password=right]"]
    kafka = KafkaServer(directory / "kafka", more=more, format_options=scram)
    kafka.listen_too("GUARDED", "SASL_SSL", port)
    kafka.guarded_address, kafka.ca_file = f"127.0.0.1:{port}", directory / "ca.pem"
    kafka.start()
    for topic in ("guarded", "forbidden"):
        kafka.create(topic)
    rights = [
        ("guarded", ResourceType.TOPIC, ResourcePatternType.LITERAL, right)
        for right in ("READ", "DESCRIBE", "WRITE")
    ]
    rights.append(("pcapdaemon-", ResourceType.GROUP, ResourcePatternType.PREFIXED, "READ"))
    for name, kind, pattern, right in rights:
        operation = AclOperation[right]
        one = AclBinding(kind, name, pattern, "User:node", "*", operation, AclPermissionType.ALLOW)
        kafka.admin.create_acls([one])[one].result(10)
    yield kafka
    kafka.kill()


MECHANISMS: dict[str, dict[str, Any]] = {
    "PLAIN": {"sasl.username": "node", "sasl.password": "right"},
    "SCRAM-SHA-512": {"sasl": {"username": "node", "password": "right"}},
    "OAUTHBEARER": {
        "enable.sasl.oauthbearer.unsecure.jwt": True,
        "sasl.oauthbearer.config": "principal=node",
    },
}


def guarded_source(kafka: KafkaServer, **client: Any) -> KafkaSource:
    tls = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(kafka.ca_file)}
    return source_of(kafka.guarded_address, "guarded", client={**tls, **client})


@pytest.mark.parametrize("mechanism", list(MECHANISMS))
async def test_tls_and_sasl(guarded: KafkaServer, mechanism: str) -> None:
    source = guarded_source(guarded, **{"sasl.mechanisms": mechanism}, **MECHANISMS[mechanism])
    async with listening(source) as ear:
        await source.send(b"hello")
        await ear.until(lambda: ear.bodies == [b"hello"])


SCRAM = {"sasl.mechanisms": "SCRAM-SHA-512", **MECHANISMS["SCRAM-SHA-512"]}


async def test_the_documented_rights_suffice_and_without_them_it_is_said_what_is_missing(
    guarded: KafkaServer,
) -> None:
    client = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(guarded.ca_file), **SCRAM}
    async with listening(
        source_of(guarded.guarded_address, "guarded", client=client, group="pcapdaemon-{node}")
    ) as ear:
        await ear.source.send(b"hello")  # type: ignore[attr-defined]
        await ear.until(lambda: ear.bodies == [b"hello"])
    assert guarded.committed("pcapdaemon-here", "guarded") > 0
    for more, words in (
        (
            {"topic": "forbidden"},
            "Topic authorization failed (see [kafka.client], and the topic's and the group's ACLs)",
        ),
        ({"topic": "guarded", "group": "another-{node}"}, "is Read on the group allowed?"),
    ):
        ear = Ear(source_of(guarded.guarded_address, **{"client": client, **more}))  # type: ignore[arg-type]
        await ear.until(ear.losses)
        assert words in ear.losses()[0]
        await ear.end()


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (
            {"sasl.mechanisms": "PLAIN", "sasl.username": "node", "sasl.password": "wrong"},
            "Authentication failed",
        ),
        ({"security.protocol": "SSL"}, "brokers"),
        (
            {
                "ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt",
                "sasl.mechanisms": "PLAIN",
                "sasl.username": "node",
                "sasl.password": "right",
            },
            "certificate verify failed",
        ),
    ],
)
async def test_what_is_wrong_with_the_credentials_is_said_and_the_broker_not_hammered(
    guarded: KafkaServer, client: dict[str, str], words: str
) -> None:
    ear = Ear(guarded_source(guarded, **client))
    await ear.until(ear.losses)
    await asyncio.sleep(2)  # long enough for several attempts
    await ear.end()
    assert any(words in reason for reason in ear.losses()) or words == "brokers"
    assert len(ear.losses()) <= 4
    assert "right" not in repr(ear.events)
    assert "wrong" not in repr(ear.events)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[KafkaServer]]:
    """A cluster of three nodes."""
    nodes = [KafkaServer(tmp_path / str(number)) for number in range(3)]
    for number, node in enumerate(nodes, 1):
        node.node_id = number
        node.voters = ",".join(
            f"{n}@127.0.0.1:{one.controller_port}" for n, one in enumerate(nodes, 1)
        )
        node.more += ["default.replication.factor=3", "min.insync.replicas=1"]
    for node in nodes:
        node.start(wait=False)
    for node in nodes:
        node.wait()
    yield nodes
    for node in nodes:
        node.kill()


async def test_one_of_three_brokers_is_killed(three: list[KafkaServer]) -> None:
    three[0].create("replicated", 3, replicas=3)
    servers = ",".join(node.address for node in three)
    producer = three[0].producer(**{"bootstrap.servers": servers, "acks": "all"})
    source = source_of(servers, "replicated")
    async with listening(source) as ear:
        sent = []
        for number in range(60):
            if number == 20:
                three[2].kill()
            sent.append(b"%d" % number)
            await asyncio.to_thread(produce, producer, "replicated", sent[-1], partition=number % 3)
        await ear.until(lambda: len(set(ear.bodies)) == len(sent), 20)
        assert sorted(ear.bodies, key=int) == sent
        assert not ear.losses()


async def test_a_partition_without_a_leader_at_the_start_is_heard_when_it_has_one(
    three: list[KafkaServer],
) -> None:
    three[0].create("scattered", 3, replicas=1)
    servers = ",".join(node.address for node in three)
    three[2].kill()
    async with listening(source_of(servers, "scattered")) as ear:
        await asyncio.to_thread(three[2].start)
        producer = three[0].producer(**{"bootstrap.servers": servers})
        for partition in range(3):
            await asyncio.to_thread(
                produce, producer, "scattered", b"%d" % partition, partition=partition
            )
        await ear.until(lambda: sorted(ear.bodies) == [b"0", b"1", b"2"], 20)


async def test_a_result_that_is_too_long_is_refused_and_not_retried(shared: Shared) -> None:
    shared.kafka.create("unsendable")
    source = source_of(shared.kafka, "unsendable")
    with pytest.raises(ResultRefused, match="too large"):
        await source.tell("unsendable", b"x" * (2 << 20))
    await source.tell("unsendable", b"{}")
    await source.close()
