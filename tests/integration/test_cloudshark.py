"""What is specific to CloudShark: its answers, good and bad."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.destinations.cloudshark import CloudShark, CloudSharkSettings, _seconds
from tests.cloudshark import TOKEN, CloudSharkServer
from tests.contracts.destinations import CONTENT, facts, savefile
from tests.helpers import certificates
from tests.servers import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudSharkServer]:
    made = CloudSharkServer(tmp_path_factory.mktemp("cloudshark")).start()
    yield made
    made.kill()


def made(server: CloudSharkServer, **more: Any) -> CloudShark:
    return CloudShark(CloudSharkSettings.model_validate(server.section(**more)))


async def test_name_tags_and_comment_arrive_and_the_receipt_links_to_it(
    server: CloudSharkServer,
) -> None:
    receipt = await made(server).deliver(
        savefile(), facts("a.pcap", "customer:acme,node:a", customer="acme", comment="see ticket 7")
    )
    upload = server.uploads[-1]
    assert (upload["filename"], upload["part"], upload["tags"]) == (
        "a.pcap",
        "a.pcap",
        "customer:acme,node:a",
    )
    assert (upload["comments"], server.content(upload)) == ("see ticket 7", CONTENT)
    assert receipt.where == receipt.link == f"{server.url}/captures/{upload['id']}"
    assert receipt.id == upload["id"]


async def test_a_comma_in_the_customer_makes_no_tag(server: CloudSharkServer) -> None:
    tags = "customer:acme,evil:1,alertid:7,node:a"
    await made(server).deliver(savefile(), facts("b.pcap", tags, customer="acme,evil:1"))
    assert server.uploads[-1]["tags"] == "customer:acme;evil:1,alertid:7,node:a"
    assert server.uploads[-1]["comments"] == ""


@pytest.mark.parametrize("trouble", ["html", "garbage", "close", "echo", 500, 503, 429, 408])
async def test_what_may_pass_is_a_failure_for_now(
    server: CloudSharkServer, trouble: int | str
) -> None:
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
        (422, "does not accept"),
    ],
)
async def test_what_no_waiting_mends_is_refused_with_what_to_do(
    server: CloudSharkServer, trouble: int, words: str
) -> None:
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
async def test_a_token_that_may_not_search_uploads_again(
    server: CloudSharkServer, trouble: int
) -> None:
    server.trouble(trouble)
    assert (await made(server).deliver(savefile(), facts(again=True))).id


@pytest.mark.parametrize("trouble", ["html", 400, 500])
async def test_a_search_without_a_result_is_no_leave_to_upload_twice(
    server: CloudSharkServer, trouble: int | str
) -> None:
    server.trouble(trouble)
    with pytest.raises(DeliveryFailed):
        await made(server).deliver(savefile(), facts(again=True))


async def test_one_that_hangs_after_the_headers_ends_with_the_timeout(
    server: CloudSharkServer,
) -> None:
    server.trouble("hang")
    with pytest.raises(DeliveryFailed, match=r"\[cloudshark\] timeout"):
        await made(server, timeout=1).deliver(savefile(), facts())


async def test_certificates_are_verified_unless_it_is_switched_off(tmp_path: Path) -> None:
    certificates(tmp_path)
    server = CloudSharkServer(tmp_path, tls=tmp_path).start()
    with pytest.raises(DeliveryFailed, match="certificate"):
        await made(server).deliver(savefile(), facts())
    assert "certificate" in await made(server).check()
    assert (
        await made(server, ca_file=str(tmp_path / "ca.pem")).deliver(savefile(), facts())
    ).where.startswith("https://")
    insecure = server.section(insecure=True)
    await CloudShark(CloudSharkSettings.model_validate(insecure)).deliver(savefile(), facts())
    assert "anybody can pretend" in CloudSharkSettings.model_validate(insecure).flaws()[0]
    server.kill()


async def test_the_token_is_in_no_log(
    server: CloudSharkServer, caplog: pytest.LogCaptureFixture
) -> None:
    for noisy in ("httpx2", "httpcore2"):  # as telemetry/ does
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
    "wrong",
    [
        {"token": None},
        {"token": "a b"},
        {"port": 70000},
        {"scheme": "ftp"},
        {"host": "h/x"},
        {"ca_file": "/no/such"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CloudSharkSettings.model_validate({"upload": True, "token": TOKEN, **wrong})


class Answering(HTTPServer):
    """A server that answers as the test chooses, and keeps what it received."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _AnsweringHandler)
        self.status, self.text, self.more = 200, '{"id": "x"}', {"Content-Type": "application/json"}
        self.bodies: list[bytes] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def says(self, status: int, text: str, **headers: str) -> CloudShark:
        """Answer this from now on, and return a destination for this server."""
        self.status, self.text, self.more = (
            status,
            text,
            {name.replace("_", "-"): value for name, value in headers.items()},
        )
        return self.destination()

    def destination(self, **more: Any) -> CloudShark:
        where = {
            "upload": True,
            "scheme": "http",
            "host": "127.0.0.1",
            "port": self.server_port,
            "token": TOKEN,
        }
        return CloudShark(CloudSharkSettings.model_validate({**where, **more}))


class _AnsweringHandler(BaseHTTPRequestHandler):
    server: Answering

    def answer(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
        self.send_response(self.server.status)
        for name, value in self.server.more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    do_GET = do_POST = answer  # noqa: N815  # the base names them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base names it so
        pass


@pytest.fixture
def answering() -> Iterator[Answering]:
    server = Answering()
    yield server
    server.shutdown()
    server.server_close()


async def test_a_comment_is_sent_only_where_there_is_one(answering: Answering) -> None:
    await answering.destination().deliver(savefile(b"packets"), facts())
    await answering.destination().deliver(savefile(b"packets"), facts(comment="see ticket 7"))
    assert [b'name="comments"' in body for body in answering.bodies] == [False, True]


async def test_tags_and_comments_of_all_the_world_arrive(server: CloudSharkServer) -> None:
    comment = "Zeile 1\r\nZeile 2: \"ノード\" & 'Söhne' --boundary"
    await made(server).deliver(
        savefile(b"packets"),
        facts("world.pcap", "node:ノード,customer:Söhne & Co", comment=comment),
    )
    upload = next(one for one in server.uploads if one["filename"] == "world.pcap")
    assert (upload["tags"], upload["comments"]) == ("node:ノード,customer:Söhne & Co", comment)


@pytest.mark.parametrize("kind", ["text/html", "text/javascript", "application/octet-stream"])
async def test_a_success_is_one_whatever_its_content_type(answering: Answering, kind: str) -> None:
    receipt = await answering.says(200, '{"id": "abc"}', Content_Type=kind).deliver(
        savefile(b"packets"), facts()
    )
    assert receipt.link == f"http://127.0.0.1:{answering.server_port}/captures/abc"


async def test_an_id_can_lead_nowhere_else(answering: Answering) -> None:
    receipt = await answering.says(200, json.dumps({"id": "../../evil?a#b"})).deliver(
        savefile(b"packets"), facts()
    )
    assert (
        receipt.link == f"http://127.0.0.1:{answering.server_port}/captures/..%2F..%2Fevil%3Fa%23b"
    )


async def test_an_id_that_no_url_can_name_is_a_failure_for_now(answering: Answering) -> None:
    with pytest.raises(DeliveryFailed):
        await answering.says(200, '{"id": "\\ud800"}').deliver(savefile(b"packets"), facts())


async def test_a_search_that_is_answered_with_a_deep_nest_is_survived(answering: Answering) -> None:
    with pytest.raises(DeliveryFailed):
        await answering.says(200, "[" * 600 + "]" * 600).deliver(
            savefile(b"packets"), facts(again=True)
        )


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_heeded_of_uploads_and_of_searches(
    answering: Answering, as_date: bool, again: bool
) -> None:
    header = formatdate(time.time() + 3600, usegmt=True) if as_date else "7"
    with pytest.raises(DeliveryFailed) as failure:
        await answering.says(429, "busy", Retry_After=header).deliver(
            savefile(b"packets"), facts(again=again)
        )
    assert failure.value.retry_after == pytest.approx(
        3600 if as_date else 7, abs=30 if as_date else 0
    )


async def test_retry_after_of_strange_digits_is_a_failure_for_now(answering: Answering) -> None:
    with pytest.raises(DeliveryFailed):
        await answering.says(503, "busy", Retry_After="\u00b2").deliver(
            savefile(b"packets"), facts()
        )


@pytest.mark.parametrize("status", [302, 400, 404, 500])
@pytest.mark.parametrize(
    "text",
    [f"{TOKEN.upper()} {TOKEN} " * 2000, json.dumps({"exceptions": [f"no {TOKEN}", "x" * 9000]})],
)
async def test_words_of_a_server_are_short_and_have_no_token(
    answering: Answering, status: int, text: str
) -> None:
    with pytest.raises((DeliveryFailed, DeliveryRefused)) as failure:
        await answering.says(
            status, text, Location=f"https://h/{TOKEN.upper()}/" + "x" * 3000
        ).deliver(savefile(b"packets"), facts())
    words = str(failure.value)
    assert len(words) < 1300
    assert TOKEN not in words.lower()
    assert "***" in words


async def test_words_of_a_server_act_on_no_terminal(answering: Answering) -> None:
    with pytest.raises(DeliveryFailed) as failure:
        await answering.says(500, "\x1b[31mred\u202e").deliver(savefile(b"packets"), facts())
    assert str(failure.value).isprintable()


async def test_a_token_in_capitals_is_in_no_words_either(server: CloudSharkServer) -> None:
    server.trouble("echo", 401)
    for error in (DeliveryFailed, DeliveryRefused):
        with pytest.raises(error) as failure:
            await made(server, token=TOKEN.upper()).deliver(savefile(b"packets"), facts())
        assert TOKEN not in str(failure.value).lower()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_every_refusal_says_what_to_do(server: CloudSharkServer, status: int) -> None:
    server.trouble(status)
    with pytest.raises(DeliveryRefused, match=r"\(.+\)$"):
        await made(server).deliver(savefile(b"packets"), facts())


async def test_a_redirect_of_the_search_is_refused_too_and_nothing_is_uploaded(
    server: CloudSharkServer,
) -> None:
    server.trouble("redirect")
    with pytest.raises(DeliveryRefused, match=r"redirected to https://other\.example"):
        await made(server).deliver(savefile(b"packets"), facts("redirected.pcap", again=True))
    assert not [one for one in server.uploads if one["filename"] == "redirected.pcap"]


async def test_an_upload_that_hangs_is_one_upload_once_the_server_is_back(tmp_path: Path) -> None:
    server = CloudSharkServer(tmp_path).start()
    server.trouble("hang")
    destination = made(server, timeout=1)
    with pytest.raises(DeliveryFailed, match=r"\[cloudshark\] timeout"):
        await destination.deliver(savefile(b"packets"), facts("hung.pcap"))
    server.kill()
    server.start()
    receipt = await destination.deliver(savefile(b"packets"), facts("hung.pcap", again=True))
    assert [one["id"] for one in server.uploads] == [receipt.id]
    server.kill()


async def test_a_wrong_token_is_refused_and_check_says_so(server: CloudSharkServer) -> None:
    wrong = made(server, token="f" * 32)
    with pytest.raises(DeliveryRefused, match=r"no such token: \*\*\*"):
        await wrong.deliver(savefile(b"packets"), facts())
    assert await made(server).check() == ""
    assert not any("pcapdaemon-check" in one["filename"] for one in server.uploads)
