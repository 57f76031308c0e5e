"""The server for assistants, used by the protocol's own client."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually
from tests.servers import PCAPDAEMON, DaemonProcess

READING = {"nodes", "check_filter", "captures", "follow", "summarize", "packets"}


def command(*daemons: DaemonProcess, more: tuple[str, ...] = ()) -> StdioServerParameters:
    urls = [word for one in daemons for word in ("--url", f"http://127.0.0.1:{one.port}")]
    return StdioServerParameters(command=str(PCAPDAEMON), args=["mcp", *urls, *more])


async def call(session: ClientSession, tool: str, **arguments: Any) -> Any:
    found = await session.call_tool(tool, arguments)
    texts = [block.text for block in found.content if block.type == "text"]
    assert not found.is_error, texts
    return found.structured_content or json.loads(texts[0])


async def test_it_only_reads_unless_it_is_allowed_more(daemon: DaemonProcess) -> None:
    async with (
        stdio_client(command(daemon)) as (read, write),
        ClientSession(read, write) as session,
    ):
        shown = await session.initialize()
        assert "strangers" in (shown.instructions or "")
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert tools.keys() == READING
        assert all(one.annotations and one.annotations.read_only_hint for one in tools.values())
        refused = await session.call_tool("capture", {"interface": "lo"})
        assert refused.is_error
    assert daemon.api("GET", "/captures").json() == []


async def test_a_capture_from_the_filter_to_the_packets(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon, other = make({"general": {"node": "web-1"}}).start(), make()
    allowed = command(other, daemon, more=("--allow-capture",))
    async with stdio_client(allowed) as both, ClientSession(*both) as session:
        await session.initialize()
        nodes = (await call(session, "nodes"))["result"]
        assert "error" in nodes[0], "the other daemon does not run"
        assert nodes[1]["node"] == "web-1"
        on = {"node": "web-1"}
        checked = await call(session, "check_filter", bpf="portt 5", **on)
        assert (checked["valid"], "syntax" in checked["error"]) == (False, True)
        begun = await call(session, "capture", interface=wire.far, bpf="udp", packets=3, **on)
        eventually(lambda: daemon.record(begun["id"])["captures"][0]["state"] == "running")
        wire.send(3)
        eventually(lambda: daemon.record(begun["id"])["state"] == "finished")
        record = await call(session, "follow", request_id=begun["id"], **on)
        file = {"request_id": begun["id"], "file_name": record["captures"][0]["file_name"], **on}
        assert (await call(session, "summarize", **file))["packets"] == 3
        packets = (await call(session, "packets", limit=2, **file))["result"]
        assert [one["number"] for one in packets] == [1, 2]
        found = (await call(session, "captures", cause="mcp", **on))["result"]
        assert found[0]["id"] == begun["id"]
        long = await call(session, "capture", interface=wire.far, duration=60, **on)
        stopped = await call(session, "stop", request_id=long["id"], **on)
        assert stopped["id"] == long["id"]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("follow", {"request_id": "nothing"}, "no record of request"),
        ("check_filter", {"bpf": "tcp", "node": "nowhere"}, "no node 'nowhere'"),
        ("packets", {"request_id": "x", "file_name": "y"}, "does not have the savefile"),
    ],
)
async def test_what_is_wrong_is_said(
    daemon: DaemonProcess, tool: str, arguments: dict[str, Any], words: str
) -> None:
    async with (
        stdio_client(command(daemon)) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        found = await session.call_tool(tool, arguments)
        assert found.is_error
        assert words in str(found.content)
