"""What is specific to SQS: envelopes, shared queues, deletion of messages, the cost of polling."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import ResultRefused
from pcapdaemon.sources.pump import close, end, pump
from pcapdaemon.sources.sqs import SqsSource
from pcapdaemon.sources.sqs_client import make_client
from pcapdaemon.sources.sqs_envelopes import unwrap
from pcapdaemon.sources.sqs_settings import SqsSettings
from tests.aws import KEYS, MotoServer
from tests.contracts.sources import Shared
from tests.listen import Ear, listening


def source_of(moto: MotoServer, node: str = "here", **more: Any) -> SqsSource:
    settings = {
        "listen": True,
        "endpoint": moto.url,
        "region": KEYS["region_name"],
        "accessid": "test",
        "accesskey": "test",
        "waitseconds": 1,
        "visibility": 5,
        **more,
    }
    return SqsSource(SqsSettings.model_validate(settings), node)


async def left(moto: MotoServer, url: str, number: int) -> None:
    async with asyncio.timeout(50):
        while await asyncio.to_thread(moto.left, url) != number:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("raw", ["true", "false"])
async def test_sns_fans_out_to_a_queue_per_node(shared: Shared, raw: str) -> None:
    moto = shared.moto
    topic = moto.sns.create_topic(Name=f"capture-{raw}")["TopicArn"]
    for node in ("one", "two"):
        moto.queue(f"fan-{raw}-{node}")
        arn = f"arn:aws:sqs:us-east-1:123456789012:fan-{raw}-{node}"
        moto.sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": raw}
        )
    sources = [source_of(moto, node, queue=f"fan-{raw}-{{node}}") for node in ("one", "two")]
    async with listening(sources[0]) as one, listening(sources[1]) as two:
        moto.sns.publish(TopicArn=topic, Message='{"node":"any"}')
        await one.until(lambda: one.bodies == two.bodies == [b'{"node":"any"}'])
        if raw == "false":  # SNS's own ID, the same in every queue
            assert one.messages[0].key == two.messages[0].key


SNS = {
    "Type": "Notification",
    "MessageId": "an-id",
    "TopicArn": "arn:aws:sns:us-east-1:1:t",
    "Message": '{"node":"a"}',
    "Timestamp": "2026-01-01T00:00:00.000Z",
    "SignatureVersion": "1",
    "Signature": "that is nobody's business",
    "SigningCertURL": "https://example.com/x.pem",
    "UnsubscribeURL": "https://example.com/",
}
EVENT = {
    "version": "0",
    "id": "event-id",
    "detail-type": "capture",
    "source": "monitoring",
    "account": "1",
    "time": "2026-01-01T00:00:00Z",
    "region": "us-east-1",
    "resources": [],
    "detail": {"node": "a", "interface": ["eth0"]},
}


@pytest.mark.parametrize(
    ("body", "inside", "key"),
    [
        ('{"node":"a"}', b'{"node":"a"}', ""),
        (json.dumps(SNS), b'{"node":"a"}', "an-id"),
        (json.dumps(EVENT), b'{"node": "a", "interface": ["eth0"]}', "event-id"),
        (
            json.dumps({**SNS, "Message": json.dumps(EVENT)}),
            b'{"node": "a", "interface": ["eth0"]}',
            "an-id",
        ),
        (json.dumps({**SNS, "Message": 5}), json.dumps({**SNS, "Message": 5}).encode(), ""),
        (json.dumps({**SNS, "Message": "[" * 50_000}), b"[" * 50_000, "an-id"),
        ("[" * 50_000, b"[" * 50_000, ""),
        ("[1]", b"[1]", ""),
    ],
    ids=["bare", "sns", "eventbridge", "both", "no-envelope", "sns-deep", "deep", "array"],
)
def test_envelopes_are_opened_and_nothing_else_is_touched(
    body: str, inside: bytes, key: str
) -> None:
    assert unwrap(body) == (inside, key)


async def test_on_a_shared_queue_each_node_gets_what_is_for_it_and_what_is_too_old_is_deleted(
    shared: Shared,
) -> None:
    moto, url = shared.moto, shared.moto.queue("shared")
    heard: dict[str, list[bytes]] = {"one": [], "two": []}

    def judge(node: str) -> Any:
        def take(message: Any) -> None:
            mine = message.body.startswith(node.encode())
            heard[node] += [message.body] if mine else []
            message.settle(
                Verdict.TAKEN
                if mine
                else Verdict.DONE
                if message.body == b"stale"
                else Verdict.ELSEWHERE
            )

        return take

    sources = {node: source_of(moto, node, queue="shared", shared=True) for node in heard}
    pumps = [
        asyncio.create_task(pump(source, judge(node), lambda event: None))
        for node, source in sources.items()
    ]
    bodies = [f"{node} {n}" for n in range(10) for node in heard] + ["stale"]
    for body in bodies:
        moto.sqs.send_message(QueueUrl=url, MessageBody=body)
    await left(moto, url, 0)
    for task, source in zip(pumps, sources.values(), strict=True):
        await end(task)
        await close(source)
    for node, found in heard.items():
        assert sorted(found) == sorted(f"{node} {n}".encode() for n in range(10)), "each once"


async def test_finish_keeps_a_message_invisible_until_it_is_done(shared: Shared) -> None:
    moto, url = shared.moto, shared.moto.queue("finish")
    async with listening(source_of(moto, url=url, ack="finish")) as ear:
        moto.sqs.send_message(QueueUrl=url, MessageBody="hello")
        await ear.until(lambda: ear.bodies)
        assert ear.messages[0].until_done
        await asyncio.sleep(7)  # longer than `visibility`
        assert ear.bodies == [b"hello"]
        assert moto.left(url) == 1
        settle = ear.messages[0].settle
        assert settle
        settle(Verdict.DONE)
        await left(moto, url, 0)


@pytest.mark.parametrize(("bad", "number"), [("delete", 0), ("leave", 1)])
async def test_what_is_no_request_is_deleted_or_left_for_the_dead_letter_queue(
    shared: Shared, bad: str, number: int
) -> None:
    moto, url = shared.moto, shared.moto.queue(f"bad-{bad}")
    async with listening(source_of(moto, url=url, bad=bad)) as ear:
        ear.verdict = Verdict.BAD
        moto.sqs.send_message(QueueUrl=url, MessageBody="garbage")
        await ear.until(lambda: ear.bodies)
    await left(moto, url, number)


async def test_an_empty_queue_costs_one_request_per_wait(shared: Shared) -> None:
    moto, url = shared.moto, shared.moto.queue("empty")
    source = source_of(moto, url=url, waitseconds=2)
    calls: list[str] = []
    async with listening(source) as ear:
        assert source._client
        source._client.meta.events.register(
            "before-call.sqs.*", lambda model, **_: calls.append(model.name)
        )
        await asyncio.sleep(6.5)
        assert set(calls) == {"ReceiveMessage"}
        assert len(calls) <= 4
        assert not ear.losses()


async def test_credentials_that_are_refused_are_said_and_the_service_not_hammered(
    shared: Shared, tmp_path: Any
) -> None:
    moto = MotoServer(tmp_path).start()
    url = moto.queue("guarded")
    moto.want_credentials()
    ear = Ear(source_of(moto, url=url))
    await ear.until(ear.losses)
    await asyncio.sleep(2)  # long enough for several attempts
    await ear.end()
    moto.kill()
    assert len(ear.losses()) == 1
    assert "InvalidClientTokenId" in ear.losses()[0]
    assert "[sqs] accessid" in ear.losses()[0]
    assert (tmp_path / "moto.log").read_text().count("POST / ") < 15


async def test_a_queue_that_does_not_exist_is_said(shared: Shared) -> None:
    ear = Ear(source_of(shared.moto, queue="nowhere"))
    await ear.until(ear.losses)
    await ear.end()
    assert "QueueDoesNotExist" in ear.losses()[0] or "NonExistentQueue" in ear.losses()[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "url or queue"),
        ({"url": "https://x/y", "queue": "z"}, "url or queue"),
        ({"url": "x"}, "https://sqs.REGION"),
        ({"queue": "z", "accessid": "a"}, "set both"),
        ({"queue": "z", "chunksize": 11}, "chunksize"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match="SqsSettings") as refusal:
        SqsSettings.model_validate({"listen": True, **settings})
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        (
            "https://sqs.eu-central-1.amazonaws.com/1/q",
            "eu-central-1",
            "https://sqs.eu-central-1.amazonaws.com",
        ),
        (
            "https://eu-west-1.queue.amazonaws.com/1/q",
            "eu-west-1",
            "https://sqs.eu-west-1.amazonaws.com",
        ),
        ("http://elasticmq:9324/000/q", "us-east-1", "http://elasticmq:9324"),
    ],
)
def test_region_and_endpoint_are_taken_from_the_url(
    url: str, region: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    settings = SqsSettings(listen=True, url=url, accessid="a", accesskey=SecretStr("b"))
    client = make_client(settings)
    assert (client.meta.region_name, client.meta.endpoint_url) == (region, endpoint)


async def test_what_sqs_fails_on_in_a_batch_is_asked_again_and_what_is_the_callers_fault_is_not(
    shared: Shared,
) -> None:
    source = source_of(shared.moto, queue="failing")  # not connected: nothing else calls its client
    asked = []

    class Failing:
        def delete_message_batch(self, **call: Any) -> dict[str, Any]:
            asked.append([entry["ReceiptHandle"] for entry in call["Entries"]])
            faults = {"a": True, "b": False, "c": False}
            failed = [
                {"Id": e["Id"], "SenderFault": faults[e["ReceiptHandle"]]} for e in call["Entries"]
            ]
            return {"Failed": failed if len(asked) == 1 else []}

    source._client = Failing()  # type: ignore[assignment]
    await source._call_patiently([("a", None), ("b", None), ("c", None)])
    assert asked == [["a", "b", "c"], ["b", "c"]]


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_fifo_queue(shared: Shared, is_shared: bool) -> None:
    moto, name = shared.moto, f"fifo-{is_shared}.fifo"
    url = moto.queue(name, FifoQueue="true")
    source = source_of(moto, queue=name, shared=is_shared)
    async with listening(source) as ear:
        for body in (b"one", b"one", b"two"):
            await source.send(body)
        await ear.until(lambda: len(ear.bodies) == 3)
        assert sorted(ear.bodies) == [b"one", b"one", b"two"], "an equal message is no duplicate"
        await left(moto, url, 0)
        ear.verdict = Verdict.BUSY
        await source.send(b"busy")
        await ear.until(lambda: b"busy" in ear.bodies)
        ear.verdict = Verdict.DONE
        await source.send(b"meanwhile")
        await ear.until(lambda: b"meanwhile" in ear.bodies and ear.bodies.count(b"busy") > 1, 30)
        await left(moto, url, 0)


async def test_a_result_that_is_too_long_is_refused_and_not_retried(shared: Shared) -> None:
    shared.moto.queue("unsendable")
    source = source_of(shared.moto, queue="unsendable")
    with pytest.raises(ResultRefused):
        await source.tell("unsendable", b"x" * (2 << 20))
    await source.tell("unsendable", b"{}")
    await source.close()


async def test_a_reader_that_leaves_hides_nothing_from_the_next(shared: Shared) -> None:
    moto, url = shared.moto, shared.moto.queue("answers")
    settings = source_of(moto, queue="unused", visibility=600).settings
    source = SqsSource.of_answers(settings, "here", "answers")
    await source.connect()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await source.receive()
    await close(source)
    for _ in range(20):
        moto.sqs.send_message(QueueUrl=url, MessageBody="{}")
    found: list[Any] = []
    async with asyncio.timeout(30):
        while len(found) < 20:
            found += await asyncio.to_thread(received, moto, url)
    counts = {one["Attributes"]["ApproximateReceiveCount"] for one in found}
    assert counts == {"1"}, "no poll is left that takes any"


async def test_what_was_received_and_not_taken_is_returned(shared: Shared) -> None:
    moto, url = shared.moto, shared.moto.queue("untaken")
    source = source_of(moto, queue="untaken", visibility=600)
    for body in ("one", "two", "three"):
        moto.sqs.send_message(QueueUrl=url, MessageBody=body)
    await source.connect()
    first = await source.receive()
    assert first.settle
    first.settle(Verdict.DONE)
    await close(source)
    async with asyncio.timeout(30):
        bodies = {first.body.decode()}
        while len(bodies) < 3:
            bodies |= {one["Body"] for one in await asyncio.to_thread(received, moto, url)}
    assert bodies == {"one", "two", "three"}


def received(moto: MotoServer, url: str) -> list[Any]:
    """Return what another reader receives within a second."""
    names: Any = ["ApproximateReceiveCount"]
    answer = moto.sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageSystemAttributeNames=names
    )
    return list(answer.get("Messages", []))
