"""Only a field of `Outcome` is needed to report a new fact about the end of a capture."""

import json
import os
import shutil
from pathlib import Path

import pcapdaemon
from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually
from tests.integration.test_pcapng import comment
from tests.servers import wait_for_file
from tests.webhook import SECRET, Receiver

FIELD = """    error: str = ""
    made_up: str = field(default_factory=lambda: __import__("os").environ["MADE_UP"])
"""


def with_one_more_fact(directory: Path) -> Path:
    """A copy of the program with one more field in one file."""
    copy = directory / "copy"
    shutil.copytree(Path(pcapdaemon.__file__).parent, copy / "pcapdaemon")
    file = copy / "pcapdaemon" / "core" / "outcome.py"
    text = file.read_text()
    assert text.count('    error: str = ""\n') == 1
    text = text.replace('    error: str = ""\n', FIELD).replace(
        "import dataclass\n", "import dataclass, field\n"
    )
    file.write_text(text)
    return copy


def test_a_made_up_fact_is_everywhere_and_survives_a_restart(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    receiver = Receiver()
    environment = {
        **os.environ,
        "PYTHONPATH": str(with_one_more_fact(tmp_path)),
        "MADE_UP": "first",
    }
    daemon = make(
        {
            "spool": {"dir": str(tmp_path / "spool")},
            "delivery": {"memory_grace": 1},
            "results": {"webhook": f"http://127.0.0.1:{receiver.port}/", "secret": SECRET},
        },
        env=environment,
    ).start()
    daemon.lose_directory()
    daemon.request(
        interface=[wire.far],
        id="one",
        packets=5,
        format="pcapng",
        reply_events=["captured", "finished"],
    )
    eventually(lambda: daemon.logged("capture started", id="one"))
    wire.send(5)
    assert eventually(lambda: daemon.logged("capture stopped", id="one", made_up="first"))
    eventually(lambda: len(receiver.events) == 2)
    captured, finished = (event["data"] for event in receiver.events)
    assert captured["made_up"] == finished["captures"][0]["made_up"] == "first"
    assert daemon.record("one")["captures"][0]["made_up"] == "first"
    assert "made_up" in json.dumps(daemon.api("GET", "/openapi.json").json())
    daemon.kill()

    (manifest,) = (tmp_path / "spool").glob("*.json")
    assert json.loads(manifest.read_text())["stopped"]["made_up"] == "first"
    environment["MADE_UP"] = "second"
    daemon.start()
    eventually(lambda: daemon.record("one").get("captures"))
    assert daemon.record("one")["captures"][0]["made_up"] == "first", (
        "read back from the manifest, not made up again"
    )
    file = wait_for_file(daemon.captures, "*one.pcapng")
    assert comment(file)["made_up"] == "first"
    assert daemon.stop() == 0
    receiver.close()
