"""The commands, run with what people type wrong, and where terminals and locales are odd."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.helpers import Wire, eventually, numbers
from tests.servers import PCAPDAEMON, DaemonProcess


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:abc", "Port could not be cast"),
        ("http://127.0.0.1:99999", "Port out of range"),
        ("http://127.0.0.1:0", "must begin with http://"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("127.0.0.1:8723", "must begin with http://"),
        ("ftp://host", "must begin with http://"),
        ("http://", "must begin with http://"),
    ],
)
@pytest.mark.parametrize("words_of", [["status", "x"], ["request", "-i", "lo"], ["recorders"]])
def test_a_wrong_url_is_a_mistake_in_words(url: str, words: str, words_of: list[str]) -> None:
    result = command(*words_of, "--url", url)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert words in result.stderr
    assert "for example http://127.0.0.1:8723" in result.stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[http]\nhost = 5", "[http] host"),
        ('[http]\nport = "abc"', "[http] port"),
        ("[http]\nport = 99999", "[http] port"),
        ("[http]\ntoken_file = 5", "[http] token_file"),
        ("http = 3", "[http] must be a table"),
    ],
)
def test_a_wrong_configuration_of_a_client_is_a_mistake_in_words(
    tmp_path: Path, config: str, words: str
) -> None:
    (tmp_path / "c.toml").write_text(config)
    result = command("status", "x", "--config", str(tmp_path / "c.toml"))
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert words in result.stderr


@pytest.mark.parametrize(
    "content", [b"correct horse\nbattery\n", b"\xff\xfe", "tökén".encode(), b"\n"]
)
def test_a_wrong_token_is_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    for words in (["list"], ["request", "-i", "lo"], ["recorders"]):
        result = command(*words, "--token-file", str(tmp_path / "token"))
        assert (result.returncode, "Traceback" in result.stderr) == (1, False)
        assert str(tmp_path / "token") in result.stderr
        assert "battery" not in result.stderr + result.stdout


def test_who_needs_a_token_learns_how_to_pass_it(make: Make, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("another-token")
    daemon = make({"http": {"token": "correct-horse"}}).start()
    url = ["--url", f"http://127.0.0.1:{daemon.port}"]
    assert "--token-file" in command("list", *url).stderr
    refused = command("list", *url, "--token-file", str(tmp_path / "wrong"))
    assert "wrong has another token than the daemon" in refused.stderr


def test_a_port_that_speaks_no_tls_is_named(daemon: DaemonProcess) -> None:
    result = command("list", "--url", f"https://127.0.0.1:{daemon.port}")
    assert result.returncode == 1
    assert "check whether the port speaks TLS" in result.stderr


def test_odd_ids_are_found_and_shown_in_every_locale(daemon: DaemonProcess, wire: Wire) -> None:
    daemon.request(wait=True, interface=[wire.far], id="ü\u202e\ufffd1", duration=1)
    url = f"http://127.0.0.1:{daemon.port}"
    for coding in ("ascii", "latin-1", "utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": coding, "LC_ALL": "C"}
        result = subprocess.run(
            [PCAPDAEMON, "list", "--url", url],
            env=environment,
            capture_output=True,
            check=False,
        )
        assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    for name in (b"\xff", "ü".encode()):
        found = subprocess.run(
            [PCAPDAEMON, "status", name, "--url", url],
            env={**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
            capture_output=True,
            check=False,
        )
        assert (found.returncode, b"Traceback" in found.stderr) == (1, False), found.stderr


def test_a_dumb_terminal_gets_whole_tables(daemon: DaemonProcess, wire: Wire) -> None:
    name = "an-id-that-is-longer-than-a-column-of-a-table-would-be-in-eighty-columns"
    daemon.request(wait=True, interface=[wire.far], id=name, duration=1)
    shell = f"{PCAPDAEMON} list --url http://127.0.0.1:{daemon.port}"
    found = subprocess.run(
        ["script", "-qec", shell, "/dev/null"],
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert name in found.stdout


def test_a_file_that_can_not_be_written_is_refused_before_the_capture(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    url = ["--url", f"http://127.0.0.1:{daemon.port}"]
    for words in (["request", "--node", "any"], ["capture", "--lookback", "1"]):
        for target in (tmp_path, tmp_path / "missing" / "x.pcap"):
            result = command(*words, "-i", wire.far, "-w", str(target), *url)
            assert result.returncode == 2
            assert f"-w {target}" in result.stderr
    assert daemon.api("GET", "/captures").json() == []


def test_a_lookback_is_fetched_from_wherever_the_daemon_has_it(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    """Here, from the spool: CloudShark can't be reached."""
    daemon = make(
        {
            "general": {"writelocal": False},
            "cloudshark": {"upload": True, "host": "127.0.0.1", "port": 9, "token": "x" * 9},
            "spool": {"dir": str(tmp_path / "spool")},
            "delivery": {"memory_grace": 1},
            "recorder 1": {"interface": wire.far, "memory": "16MiB"},
        }
    ).start()
    eventually(lambda: daemon.logged("recorder records"))
    wire.send(5)
    url = ["--url", f"http://127.0.0.1:{daemon.port}"]
    words = ["capture", "--lookback", "10", "-i", wire.far, "-c", "5", "-w"]
    result = command(*words, str(tmp_path / "x.pcap"), *url)
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path / "x.pcap") == list(range(5))
    assert (tmp_path / "x.pcap").stat().st_mode & 0o077 == 0
    nothing = [*words, str(tmp_path / "y.pcap"), "--timeout", "1", *url, "udp", "port", "7"]
    assert command(*nothing).returncode == 3
    assert not (tmp_path / "y.pcap").exists()


def test_a_request_that_is_terminated_ends_its_capture(daemon: DaemonProcess, wire: Wire) -> None:
    url = ["--url", f"http://127.0.0.1:{daemon.port}"]
    words = [str(PCAPDAEMON), "request", "-i", wire.far, "--id", "t", "--duration", "60", *url]
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: daemon.logged("capture started", id="t"))
    asking.terminate()
    asking.communicate(timeout=30)
    (stopped,) = eventually(lambda: daemon.logged("capture stopped", id="t"))
    assert stopped["stop_reason"] == "stopped"


def checked(make: Make, sections: dict[str, dict[str, object]], *words: object) -> str:
    """Return what `check` says of a configuration."""
    return command("check", "--config", make(sections).config, *words).stdout


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"general": {"memory": "100TiB"}}, "WRONG memory: 100 TiB"),
        ({"recorder 1": {"interface": "lo", "memory": "100TiB"}}, "WRONG memory: 100 TiB"),
        ({"general": {"maxpacket": 5}}, "warn  configuration: "),
        ({"interface 1": {"name": "x", "replay": "/bin/true"}}, "WRONG replay x: /bin/true: "),
        ({"audit": {"file": "/tmp"}}, "WRONG audit: /tmp: Is a directory"),
        ({"audit": {"file": "/nonexistent/x"}}, "WRONG audit: /nonexistent/x: No such file"),
        (
            {"http": {"host": "192.0.2.77", "token": "correct-horse"}},
            "hint: set [http] host to an address of this host",
        ),
        ({"spool": {"dir": "/nonexistent/deep"}}, "ok    spool: /nonexistent/deep will be made"),
        ({"general": {"statedir": "/nonexistent/x"}}, "ok    state: /nonexistent/x will be made"),
        ({"spool": {"dir": "/dev/null/x"}}, "WRONG spool: /dev/null/x: Not a directory"),
    ],
)
def test_check_finds_what_a_daemon_would_find(
    make: Make, sections: dict[str, dict[str, object]], line: str
) -> None:
    assert line in checked(make, sections)
    assert not Path("/nonexistent").exists()


def test_check_makes_no_directory_of_another_user(make: Make, tmp_path: Path) -> None:
    spool, state, captures = tmp_path / "spool", tmp_path / "deep" / "state", tmp_path / "deep"
    general: dict[str, object] = {"statedir": str(state), "localdir": str(captures)}
    said = checked(make, {"spool": {"dir": str(spool)}, "general": general})
    assert f"ok    destination local: {captures} will be made" in said
    assert not captures.exists()
    (wrong,) = [
        line
        for line in checked(make, {"general": {"localdir": str(captures / "x")}}).splitlines()
        if line.startswith("WRONG")
    ]
    assert wrong == f"WRONG destination local: {captures / 'x'}: No such file or directory"
    assert f"ok    spool: {spool} will be made" in said
    assert f"ok    state: {state} will be made" in said
    assert not spool.exists()
    assert not state.exists()


def test_check_says_what_is_odd_about_a_request(make: Make, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"node": "other", "interface": ["lo"], "packetz": 5}')
    said = checked(make, {}, "--request", tmp_path / "r.json")
    assert "unknown field packetz; did you mean packets?" in said
    assert "is for other nodes than" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[http]\nlisen = true", "unknown key lisen; did you mean listen?"),
        ('[http]\nlisten = "true"', "[http] listen: must be true or false, not 'true'"),
    ],
)
def test_a_switch_that_is_mistyped_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.toml").write_text(f"{text}\n[general]\nwritelocal = true\n")
    result = command("check", "--config", tmp_path / "c.toml")
    assert result.returncode == 2
    assert words in result.stderr


def test_a_daemon_that_may_not_capture_warns(make: Make) -> None:
    daemon = make({})
    daemon.start(wrapper=["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"])
    eventually(lambda: [line for line in daemon.log() if "CAP_NET_RAW is missing" in str(line)])


def test_a_file_that_is_no_savefile_is_named(tmp_path: Path) -> None:
    result = command("merge", "/bin/true", "-w", tmp_path / "m.pcapng")
    assert result.returncode == 1
    assert "true: it begins with 7f 45 4c 46" in result.stderr


def test_results_of_a_capture_to_stdout_may_be_json(wire: Wire) -> None:
    words = ["capture", "-i", wire.far, "--duration", "1", "-w", "-", "--json"]
    run = subprocess.run([PCAPDAEMON, *words], capture_output=True, check=False)
    assert b'"stop_reason": "duration"' in run.stderr
    assert len(run.stdout) == 24, "the header of a pcap file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--since", "1h"], "must be a time in RFC 3339"),
        (["capture", "-r", "-"], "standard input can't be played"),
        (["spool", "list"], "no --config: [spool] dir is not set"),
        (["request", "--message", "/nonexistent"], "error: /nonexistent: No such file"),
        (["request", "--message", "/dev/null"], "/dev/null: is not JSON"),
    ],
)
def test_what_is_mistaken_is_named(words: list[str], said: str) -> None:
    result = command(*words)
    assert result.returncode == 2
    assert said in result.stderr
