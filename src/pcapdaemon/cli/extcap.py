"""`pcapdaemon extcap`: interfaces of nodes in Wireshark's own list.

Wireshark calls the program several times, each time with one of the options that begin with
`--extcap-`, and reads lines in a format of its own (doc/extcap.adoc in its source).
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcapdaemon import __version__
from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail
from pcapdaemon.core.errors import PcapdaemonError

if TYPE_CHECKING:
    from pcapdaemon.cli.client import ApiClient

_VALUE = re.compile(r"pcapdaemon-(\d{1,4})-(.+)")
_LINKTYPES = {"EN10MB": (1, "Ethernet"), "LINUX_SLL": (113, "Linux cooked"), "RAW": (101, "Raw IP")}
_FOLDER, _OLD_FOLDER = (
    re.compile(rf"^{words}:\s*(\S.*)$", re.MULTILINE)
    for words in ("Personal Extcap path", "Extcap path")
)
USUAL_PLACE = "~/.local/lib/wireshark/extcap"

Flag = Annotated[bool, typer.Option(hidden=True)]
Text = Annotated[str | None, typer.Option(hidden=True)]


def extcap(
    install: Annotated[
        bool, typer.Option("--install", help="Make the interfaces appear in Wireshark's list.")
    ] = False,
    url: options.Urls = None,
    token_file: options.TokenFile = None,
    lookback: options.Lookback = None,
    packets: options.Packets = None,
    duration: options.Duration = None,
    snap: options.Snap = None,
    extcap_interfaces: Flag = False,
    extcap_dlts: Flag = False,
    extcap_config: Flag = False,
    capture: Flag = False,
    extcap_interface: Text = None,
    extcap_capture_filter: Text = None,
    extcap_version: Text = None,
    extcap_reload_option: Text = None,
    fifo: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Capture on nodes from within Wireshark. Wireshark calls this once it is installed.

    Each node's interfaces appear in the list of interfaces. Its options there are how far before
    now to begin, and limits. The packets come as they are captured.

    Example: pcapdaemon extcap --install --url http://node1:8723 --token-file token
    """
    urls = url or ["http://127.0.0.1:8723"]
    if install:
        _install(urls, token_file)
    elif extcap_interfaces:
        _list(urls, token_file)
    elif extcap_interface:
        api, name = _node_of(extcap_interface, urls, token_file)
        if extcap_dlts:
            _show_linktype(api, name)
        elif extcap_config:
            _show_options(api, name)
        elif capture and fifo:
            limits = {"lookback": lookback, "packets": packets, "duration": duration, "snap": snap}
            _capture(api, name, fifo, extcap_capture_filter or "", limits)
        elif extcap_capture_filter is not None:
            _check_filter(api, name, extcap_capture_filter)
    else:
        fail(2, ["this is for Wireshark"], "run 'pcapdaemon extcap --install'")


def _install(urls: list[str], token_file: Path | None) -> None:
    target = _folder() / "pcapdaemon"
    program = shutil.which("pcapdaemon")
    words = [program] if program else [sys.executable, "-m", "pcapdaemon"]
    words.append("extcap")
    for one in urls:
        words += ["--url", one]
    if token_file:
        words += ["--token-file", str(token_file.absolute())]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        target.chmod(0o755)
    except OSError as error:
        hint = "run it as root, or set WIRESHARK_EXTCAP_DIR to a folder of your own, here and there"
        fail(1, [f"{target}: {error.strerror}"], hint)
    print(target)


def _folder() -> Path:
    """Return where Wireshark looks for such programs; it knows best itself.

    Before 4.2, it has no folder for each user, but one that belongs to root.
    """
    for program in filter(None, map(shutil.which, ("tshark", "wireshark"))):
        with suppress(OSError, subprocess.SubprocessError):
            shown = subprocess.run(  # noqa: S603  # Wireshark, with fixed words
                [program, "-G", "folders"], capture_output=True, text=True, timeout=20, check=True
            ).stdout
            if found := _FOLDER.search(shown) or _OLD_FOLDER.search(shown):
                return Path(found[1])
    return Path(USUAL_PLACE).expanduser()


def _list(urls: list[str], token_file: Path | None) -> None:
    print(f"extcap {{version={__version__}}}{{display=pcapdaemon}}")
    for number, url in enumerate(urls):
        try:
            api = _client(url, token_file)
            node, found = api.about()["node"], api.interfaces()
        except PcapdaemonError as error:  # the others are there
            print(f"{url}: {error}", file=sys.stderr)
            continue
        for one in found:
            if one["allowed"] and one["kind"] != "pseudo":
                recorded = ", recorded" if one["recorder"] else ""
                value, shown = f"pcapdaemon-{number}-{one['name']}", f"{node}: {one['name']}"
                print(f"interface {{value={value}}}{{display={_plain(shown)}{recorded}}}")


def _show_linktype(api: "ApiClient", name: str) -> None:
    kind = _interface(api, name)["linktype"] or "EN10MB"
    number, words = _LINKTYPES.get(kind, (1, kind))
    print(f"dlt {{number={number}}}{{name={kind}}}{{display={words}}}")


def _show_options(api: "ApiClient", name: str) -> None:
    most = api.about()["limits"]["lookback"] if _interface(api, name)["recorder"] else 0
    rows = [
        ("lookback", "Begin before now, in seconds", f"{{range=0,{int(most)}}}{{default=0}}"),
        ("packets", "Stop after packets", ""),
        ("duration", "Stop after seconds", ""),
        ("snap", "Bytes kept of each packet", "{default=262144}"),
    ]
    for number, (option, words, more) in enumerate(rows):
        call = f"{{number={number}}}{{call=--{option}}}{{display={words}}}{{type=unsigned}}"
        print(f"arg {call}{more}")


def _capture(
    api: "ApiClient", name: str, fifo: Path, expression: str, limits: dict[str, Any]
) -> None:
    message: dict[str, Any] = {"node": "any", "interface": [name], "snap": 262144}
    message |= {key: value for key, value in limits.items() if value}
    limits_of_node = api.about()["limits"]
    message.setdefault("duration", int(limits_of_node["duration"]))
    message["timeout"] = int(limits_of_node["timeout"])
    if expression:
        message["bpf"] = expression
    with suppress(BrokenPipeError), fifo.open("wb", buffering=0) as to:  # Wireshark may be gone
        api.stream(message, to)


def _check_filter(api: "ApiClient", name: str, expression: str) -> None:
    found = api.check_filter(expression, name)
    if not found["valid"]:
        print(found["error"])


def _interface(api: "ApiClient", name: str) -> dict[str, Any]:
    for one in api.interfaces():
        if one["name"] == name:
            return one
    raise PcapdaemonError(f"{api.url}: the node has no interface {name}")


def _node_of(value: str, urls: list[str], token_file: Path | None) -> tuple["ApiClient", str]:
    found = _VALUE.fullmatch(value)
    if found is None or int(found[1]) >= len(urls):
        fail(2, [f"--extcap-interface: {value} is none of this program's"])
    return _client(urls[int(found[1])], token_file), found[2]


def _client(url: str, token_file: Path | None) -> "ApiClient":
    from pcapdaemon.cli.client import ApiClient

    expanded = Path(os.path.expandvars(token_file)) if token_file else None
    return ApiClient(url, expanded)


def _plain(text: str) -> str:
    """Return a text that ends no value of Wireshark's format."""
    return re.sub(r"[{}\r\n]", "_", text)
