"""What is particular to CloudShark: its answers, good and bad."""

import logging
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pcapdaemon.destinations.cloudshark import CloudShark, CloudSharkSettings, _seconds
from pcapdaemon.errors import DeliveryFailed, DeliveryRefused
from tests.cloudshark import TOKEN, CloudSharkServer
from tests.contracts.destinations import CONTENT, facts, savefile
from tests.helpers import certificates


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudSharkServer]:
    made = CloudSharkServer(tmp_path_factory.mktemp("cloudshark")).start()
    yield made
    made.kill()


def made(server: CloudSharkServer, **more: Any) -> CloudShark:
    return CloudShark(CloudSharkSettings.model_validate(server.section(**more)))


async def test_name_tags_and_comment_arrive_and_the_receipt_links_to_it(server: CloudSharkServer) -> None:
    receipt = await made(server).deliver(
        savefile(), facts("a.pcap", "customer:acme,node:a", customer="acme", comment="see ticket 7")
    )
    upload = server.uploads[-1]
    assert (upload["filename"], upload["part"], upload["tags"]) == ("a.pcap", "a.pcap", "customer:acme,node:a")
    assert (upload["comments"], server.content(upload)) == ("see ticket 7", CONTENT)
    assert receipt.where == receipt.link == f"{server.url}/captures/{upload['id']}"
    assert receipt.id == upload["id"]


async def test_a_comma_in_the_customer_makes_no_tag(server: CloudSharkServer) -> None:
    tags = "customer:acme,evil:1,alertid:7,node:a"
    await made(server).deliver(savefile(), facts("b.pcap", tags, customer="acme,evil:1"))
    assert server.uploads[-1]["tags"] == "customer:acme;evil:1,alertid:7,node:a"
    assert server.uploads[-1]["comments"] == ""


@pytest.mark.parametrize("trouble", ["html", "garbage", "close", "echo", 500, 503, 429, 408])
async def test_what_may_pass_is_a_failure_for_now(server: CloudSharkServer, trouble: int | str) -> None:
    before = len(server.uploads)
    server.trouble(trouble)
    with pytest.raises(DeliveryFailed) as failure:
        await made(server).deliver(savefile(), facts())
    assert TOKEN not in str(failure.value).lower()
    assert len(str(failure.value)) < 1200
    assert len(server.uploads) == before
    if trouble == "html":
        assert "is this a CloudShark?" in str(failure.value)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (400, "not today"),
        (401, "token"),
        (403, "token"),
        (404, "host, port and token"),
        (413, "too large"),
        (422, "does not take"),
    ],
)
async def test_what_no_waiting_mends_is_refused_with_what_to_do(server: CloudSharkServer, trouble: int, words: str) -> None:
    server.trouble(trouble)
    with pytest.raises(DeliveryRefused, match=words):
        await made(server).deliver(savefile(), facts())


async def test_a_redirect_is_no_success(server: CloudSharkServer) -> None:
    before = len(server.uploads)
    server.trouble("redirect")
    with pytest.raises(DeliveryRefused, match=r"redirected to https://other\.example") as refusal:
        await made(server).deliver(savefile(), facts())
    assert TOKEN not in str(refusal.value)
    assert len(server.uploads) == before


async def test_retry_after_is_heeded(server: CloudSharkServer) -> None:
    server.trouble("slow")
    with pytest.raises(DeliveryFailed) as failure:
        await made(server).deliver(savefile(), facts())
    assert failure.value.retry_after == 1.0
    assert 55 < (_seconds(formatdate(time.time() + 60, usegmt=True)) or 0) < 61
    assert _seconds("soon") is None
    assert _seconds("Mon, 01 Jan 2024 00:00:00 GMT") == 0.0


async def test_an_answer_that_was_lost_makes_no_second_upload(server: CloudSharkServer) -> None:
    server.trouble("lost")
    with pytest.raises(DeliveryFailed):
        await made(server).deliver(savefile(), facts("lost.pcap"))
    receipt = await made(server).deliver(savefile(), facts("lost.pcap", again=True))
    found = [one for one in server.uploads if one["filename"] == "lost.pcap"]
    assert [one["id"] for one in found] == [receipt.id]


@pytest.mark.parametrize("trouble", [403, 404])
async def test_a_token_that_may_not_search_uploads_again(server: CloudSharkServer, trouble: int) -> None:
    server.trouble(trouble)
    assert (await made(server).deliver(savefile(), facts(again=True))).id


@pytest.mark.parametrize("trouble", ["html", 400, 500])
async def test_a_search_without_a_result_is_no_leave_to_upload_twice(server: CloudSharkServer, trouble: int | str) -> None:
    server.trouble(trouble)
    with pytest.raises(DeliveryFailed):
        await made(server).deliver(savefile(), facts(again=True))


async def test_one_that_hangs_after_the_headers_ends_with_the_timeout(server: CloudSharkServer) -> None:
    server.trouble("hang")
    with pytest.raises(DeliveryFailed, match=r"\[cloudshark\] timeout"):
        await made(server, timeout=1).deliver(savefile(), facts())


async def test_certificates_are_verified_unless_it_is_switched_off(tmp_path: Path) -> None:
    certificates(tmp_path)
    server = CloudSharkServer(tmp_path, tls=tmp_path).start()
    with pytest.raises(DeliveryFailed, match="certificate"):
        await made(server).deliver(savefile(), facts())
    assert "certificate" in await made(server).check()
    assert (await made(server, ca_file=str(tmp_path / "ca.pem")).deliver(savefile(), facts())).where.startswith("https://")
    insecure = server.section(insecure=True)
    await CloudShark(CloudSharkSettings.model_validate(insecure)).deliver(savefile(), facts())
    assert "anybody can pretend" in CloudSharkSettings.model_validate(insecure).flaws()[0]
    server.kill()


async def test_the_token_is_in_no_log(server: CloudSharkServer, caplog: pytest.LogCaptureFixture) -> None:
    for noisy in ("httpx2", "httpcore2"):  # as telemetry.py has it
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with caplog.at_level(logging.DEBUG):
        for trouble in ("echo", "close", "redirect", 404):
            server.trouble(trouble)
            with pytest.raises((DeliveryFailed, DeliveryRefused)):
                await made(server).deliver(savefile(), facts())
    assert TOKEN not in caplog.text.lower()


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ({}, "https://h"),
        ({"port": 443}, "https://h"),
        ({"port": 8443}, "https://h:8443"),
        ({"scheme": "http", "port": 80}, "http://h"),
        ({"scheme": "http", "port": 443}, "http://h:443"),
    ],
)
def test_port_is_left_out_where_it_is_the_schemes_own(values: dict[str, Any], base: str) -> None:
    assert CloudSharkSettings.model_validate({"host": "h", **values}).base == base


@pytest.mark.parametrize(
    "wrong", [{"token": None}, {"token": "a b"}, {"port": 70000}, {"scheme": "ftp"}, {"host": "h/x"}, {"ca_file": "/no/such"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CloudSharkSettings.model_validate({"upload": True, "token": TOKEN, **wrong})
