"""The page at /console/, in a real browser."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.acceptance.conftest import Make
from tests.browser import Visit, visit
from tests.helpers import Wire, eventually, numbers
from tests.servers import DaemonProcess, wait_for_file

VIEWS = ("node", "capture", "captures")
MOST_BYTES = 150_000
"""Most bytes of the first view."""

expect.set_options(timeout=30_000)  # a busy machine is slow, which is no fault of the page


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that several tests share."""
    made = DaemonProcess(tmp_path_factory.mktemp("daemon")).start()
    yield made
    made.end()


@pytest.fixture
def page_of(browser: Browser, served: DaemonProcess) -> Iterator[Visit]:
    with visit(browser, f"http://127.0.0.1:{served.port}") as made:
        yield made


def recorded(make: Make, wire: Wire, **sections: Any) -> DaemonProcess:
    """Return a daemon with a recorder, a profile and an alias."""
    tables = {
        "general": {"snaplength": 2000},
        "recorder 1": {"interface": wire.far, "seconds": 30, "memory": 16 << 20},
        "interface 1": {"name": wire.far, "alias": "uplink"},
        "profile 1": {"name": "dns", "bpf": "udp port 53", "packets": 5},
    }
    return make({**tables, **sections}).start()


def start_from_form(page: Page, wire: Wire, **fields: str) -> str:
    """Fill in the form, start, and return the id of the request."""
    page.get_by_role("checkbox", name=wire.far).check()
    for name, text in fields.items():
        page.fill(f"#{name}", text)
    expect(page.locator("#bpf-state")).not_to_contain_text("Checking")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("#/captures/."))
    return str(page.locator("h1").inner_text())


def state_of(page: Page) -> Locator:
    """Return the line with the state of the request that the page shows."""
    return page.locator("main [role=status]").first


def test_the_root_leads_to_the_page_and_everything_is_from_here(page_of: Visit) -> None:
    page = page_of.page
    page.goto(f"{page_of.origin}/")
    expect(page.locator("h1")).to_be_visible()
    assert page.url.startswith(f"{page_of.origin}/console/")
    assert page_of.bytes < MOST_BYTES
    page_of.picture("first-view")


def test_this_node_with_its_traffic_and_recorder(browser: Browser, make: Make, wire: Wire) -> None:
    daemon = recorded(make, wire)
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        page = made.open("node")
        expect(page.get_by_role("row", name=re.compile(f"^{wire.far} .*recorded"))).to_be_visible()
        expect(page.get_by_text("connected").first).to_be_visible()
        recorder = page.get_by_role("table").first.get_by_role("row", name=wire.far)
        expect(recorder).to_contain_text("running")
        page.get_by_role("row", name=re.compile(f"^{wire.far} ")).last.get_by_role(
            "button", name="Plot"
        ).click()
        sending = wire.sending(200_000, rate=2000)
        try:
            row = page.get_by_role("row", name=re.compile(f"^{wire.far} .*recorded"))
            expect(row).to_contain_text(re.compile(r"[1-9]\d{2,3}/s"), timeout=20_000)
            expect(page.locator(".plot canvas")).to_be_visible()
        finally:
            sending.kill()
            sending.wait()
        made.picture("node")


def test_a_filter_is_checked_while_it_is_typed(page_of: Visit) -> None:
    page = page_of.open("capture")
    page.get_by_role("checkbox").first.check()
    state = page.locator("#bpf-state")
    expect(state).to_have_text("Every packet is captured.")
    page.fill("#bpf", "udp port 53")
    expect(state).to_contain_text(re.compile(r"Valid, \d+ instructions"))
    page.fill("#bpf", "port 99999")
    expect(state).to_contain_text("illegal port number")
    expect(page.locator("#bpf")).to_have_attribute("aria-invalid", "true")
    page.fill("#bpf", "host nowhere.example")
    expect(state).to_contain_text("names are not looked up")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("Correct the filter.")


def test_a_capture_from_the_form_to_the_download(
    browser: Browser, make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = recorded(make, wire)
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        page = made.open("capture")
        request_id = start_from_form(page, wire, bpf="udp", timeout="30", tags="web", packets="10")
        expect(state_of(page)).to_contain_text("running")
        wire.send(4)
        packets = page.locator("dt:text-is('Packets') + dd")
        expect(packets).to_contain_text("4")
        wire.send(6)
        expect(state_of(page)).to_contain_text("delivered")
        expect(page.locator("p.note .state")).to_contain_text("complete")
        page.get_by_role("button", name="Look inside").click()
        expect(page.get_by_role("table", name="Packets").get_by_role("row")).to_have_count(11)
        page.locator('[data-row="2"]').click()
        expect(page.get_by_label("Packet 3").locator("pre")).to_contain_text("0000  ")
        made.picture("look-inside")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        download.value.save_as(tmp_path / "got.pcap")
        there = wait_for_file(daemon.captures, f"*{request_id}.pcap")
        assert (tmp_path / "got.pcap").read_bytes() == there.read_bytes()
        assert len(numbers(there)) == 10
        page.get_by_role("link", name="Captures", exact=True).click()
        page.fill("#search", "web udp")
        expect(page.get_by_role("table", name="Requests")).to_contain_text(request_id)
        page.fill("#search", "web tcp")
        expect(page.get_by_text("No request has all of these words.")).to_be_visible()


def test_lookback_by_a_slider_over_what_the_recorder_has(
    browser: Browser, make: Make, wire: Wire
) -> None:
    daemon = recorded(make, wire)
    wire.send(50)
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["covered"] > 1)
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        page = made.open("capture")
        page.get_by_role("checkbox", name=wire.far).check()
        page.locator("#lookback").fill("20")
        expect(page.get_by_text("Begin before now: 20 s")).to_be_visible()
        expect(page.get_by_label(f"What the recorder of {wire.far} has")).to_be_visible()
        made.picture("lookback")
        start_from_form(page, wire, timeout="1")
        before = page.locator("dt:text-is('Before the trigger') + dd")
        expect(before).to_contain_text("50 packets", timeout=15_000)


def test_the_same_request_as_a_message_and_as_a_command(page_of: Visit) -> None:
    page = page_of.open("capture")
    page.get_by_role("checkbox", name="lo", exact=False).first.check()
    page.fill("#bpf", "tcp port 80")
    page.fill("#duration", "2m")
    page.fill("#comment", "it's here")
    message = json.loads(page.locator("pre").first.inner_text())
    assert (message["bpf"], message["duration"]) == ("tcp port 80", 120)
    command = page.locator("pre").last.inner_text()
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {command}"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert words[:3] == ["pcapdaemon", "request", "--url"]
    assert words[words.index("--bpf") + 1] == "tcp port 80"
    assert words[words.index("--comment") + 1] == "it's here"
    page.fill("#packets", "many")
    expect(page.locator("#packets-wrong")).to_be_visible()


def test_a_refusal_is_shown_in_words(browser: Browser, make: Make, wire: Wire) -> None:
    daemon = make({"general": {"maxpackets": 10}}).start()
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        made.expected = ("status of 400",)
        page = made.open("capture")
        page.get_by_role("checkbox", name=wire.far).check()
        page.fill("#packets", "11")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text("packets: ")


def test_stop_asks_first(page_of: Visit, wire: Wire) -> None:
    page = page_of.open("capture")
    start_from_form(page, wire, timeout="50")
    expect(state_of(page)).to_contain_text("running")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Press again to confirm").click()
    expect(state_of(page)).to_contain_text("empty")


def test_without_the_token_the_page_shows_nothing(
    browser: Browser, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-long-secret")
    daemon = make({"http": {"token_file": str(tmp_path / "token")}}).start()
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        made.expected = ("status of 401",)
        page = made.open()
        expect(page.get_by_label("The token")).to_be_focused()
        page.fill("#token", "another-secret")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_have_text("This token is wrong.")
        page.fill("#token", "a-long-secret")
        page.keyboard.press("Enter")
        expect(page.locator("header .name")).to_be_visible()
        assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
        page.reload()
        expect(page.locator("header .name")).to_be_visible()
        page.get_by_role("button", name="Forget the token").click()
        expect(page.get_by_label("The token")).to_be_visible()
        assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_a_daemon_that_is_gone_is_noticed_and_found_again(browser: Browser, make: Make) -> None:
    daemon = make().start()
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        made.expected = ("net::ERR", "Failed to load resource")
        page = made.open("node")
        expect(page.get_by_text("disconnected")).to_have_count(0)
        daemon.stop()
        expect(page.get_by_role("alert")).to_contain_text("Not connected", timeout=20_000)
        expect(page.locator("h1")).to_be_visible()
        daemon.start()
        expect(page.get_by_role("alert")).to_have_count(0, timeout=30_000)


def test_what_strangers_send_is_text(page_of: Visit, served: DaemonProcess, wire: Wire) -> None:
    evil = "<img src=x onerror=alert(1)><script>document.title='x'</script>"
    served.request(
        interface=[wire.far],
        id=evil,
        comment=evil,
        tags=evil,
        customer=evil,
        timeout=1,
        cause={"system": evil[:60], "title": evil, "url": "javascript:alert(1)"},
    )
    page = page_of.open("captures")
    row = page.get_by_role("table", name="Requests").get_by_role("row").nth(1)
    expect(row).to_contain_text("<img src=x")
    row.click()
    expect(page.locator("h1")).to_have_text(evil)
    assert page.locator("main img, main script").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0


def test_ten_thousand_rows(page_of: Visit) -> None:
    page = page_of.page
    records = [
        {
            **{"id": f"request-{n}", "source": "kafka", "received_at": 1.7e9 + n, "node": "n"},
            **{"state": "finished", "limits": {}, "problems": [], "warnings": [], "captures": []},
        }
        for n in range(10_000)
    ]
    page.route("**/captures?limit=*", lambda route: route.fulfill(json=records))
    page_of.open("captures")
    expect(page.get_by_text("10.0 k requests")).to_be_visible()
    assert page.locator(".long-list .row").count() < 100
    page.locator(".long-list .whole .row").first.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("row", name="request-0", exact=False).last).to_be_focused()
    page.keyboard.press("PageUp")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-row="1"]')).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#/captures/request-9998"))
    page_of.expected = ("status of 404",)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark"), (3840, "light")])
def test_everybody_can_read_it(
    browser: Browser, make: Make, wire: Wire, width: int, scheme: str
) -> None:
    daemon = recorded(make, wire)
    daemon.request(wait=True, interface=[wire.far], timeout=1, id="nothing", bpf="tcp port 1")
    window = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with visit(browser, f"http://127.0.0.1:{daemon.port}", **window) as made:
        for view in (*VIEWS, "captures/nothing"):
            page = made.open(view)
            expect(page.locator(".loading")).to_have_count(0)
            assert made.axe() == []
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{view} is wider than the window"
            made.picture(f"{view.replace('/', '-')}-{width}-{scheme}")


def test_keyboard_alone(page_of: Visit, wire: Wire) -> None:
    page = page_of.open("node")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    page.get_by_role("link", name="Capture", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Capture")
    expect(page.locator("h1")).to_be_focused()
    page.get_by_role("checkbox", name=wire.far).focus()
    page.keyboard.press("Space")
    page.locator("#timeout").focus()
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#/captures/."))


def test_each_thing_can_be_turned_off(browser: Browser, make: Make, wire: Wire) -> None:
    daemon = make({"console": {"download": False}}).start()
    wire_file = captured(daemon, wire)
    assert daemon.api("GET", wire_file).status_code == 403
    assert daemon.api("POST", f"{wire_file}/link").status_code == 403
    assert daemon.api("GET", f"{wire_file}/packets").status_code == 200
    assert daemon.api("GET", f"{wire_file}/packets?limit=1&bytes=true").status_code == 403
    with visit(browser, f"http://127.0.0.1:{daemon.port}") as made:
        page = made.open("captures/x")
        expect(page.get_by_role("button", name="Look inside")).to_be_visible()
        assert page.get_by_role("button", name="Download").count() == 0
    other = make({"console": {"preview": False}}).start()
    path = captured(other, wire)
    assert other.api("GET", path).status_code == 200
    assert other.api("GET", f"{path}/packets").status_code == 403
    assert other.api("GET", f"{path}/summary").status_code == 403
    none = make({"console": {"listen": False}}).start()
    assert none.api("GET", "/console/").status_code == 404
    assert none.api("GET", "/").headers["location"] == "/docs"


def captured(daemon: DaemonProcess, wire: Wire) -> str:
    """Capture a packet as request x, and return the path of its savefile in the API."""
    daemon.request(interface=[wire.far], id="x", packets=1)
    wire.send(1)
    eventually(lambda: daemon.record("x")["state"] == "finished")
    return f"/captures/x/files/{daemon.record('x')['captures'][0]['file_name']}"


def test_a_link_works_once_and_only_for_a_minute(served: DaemonProcess, wire: Wire) -> None:
    daemon = served
    path = captured(daemon, wire)
    link = daemon.api("POST", f"{path}/link")
    assert (link.status_code, link.json()["seconds"]) == (201, 60)
    assert daemon.api("HEAD", link.json()["href"]).status_code == 200
    first = daemon.api("GET", link.json()["href"])
    assert (first.status_code, first.content) == (200, daemon.api("GET", path).content)
    assert first.headers["content-disposition"].startswith("attachment")
    assert daemon.api("GET", link.json()["href"]).status_code == 404
    links = [daemon.api("POST", f"{path}/link").json()["href"] for _ in range(260)]
    assert daemon.api("GET", links[0]).status_code == 404, "the oldest is replaced"
    assert daemon.api("GET", links[-1]).status_code == 200


def test_files_of_the_page_and_nothing_else(served: DaemonProcess) -> None:
    daemon = served
    page = daemon.api("GET", "/console/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    again = daemon.api("GET", "/console/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("settings.py", "../settings.py", "%2e%2e/node.py", "vendor/", "views", "x.js"):
        with httpx2.Client(base_url=f"http://127.0.0.1:{daemon.port}") as client:
            assert client.get(f"/console/{path}").status_code == 404, path
