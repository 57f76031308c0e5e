"""Runs benchmarks in a network namespace.

sudo .venv/bin/python -m benchmarks [packets|fleet|user|daemon|many|start|buses|delivery|
recorder|alerts|targets|console|trust|soak]
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import (
    alerts,
    buses,
    console,
    daemon,
    delivery,
    many,
    packet_loop,
    recorder,
    soak,
    start,
    targets,
    trust,
    user,
)
from tests.helpers import Wire


def main() -> None:
    """Run the named benchmarks, or all but the soak. The exit status is 1 if a target is missed."""
    if os.environ.get("PCAPDAEMON_BENCHMARK") != "inside":
        if not sys.argv[1:] or "daemon" in sys.argv[1:]:
            daemon.install()  # here, because there is no network inside
        os.environ["PCAPDAEMON_BENCHMARK"] = "inside"
        os.execvp(
            "unshare",
            ["unshare", "--net", "--mount", sys.executable, "-m", "benchmarks", *sys.argv[1:]],
        )
    wanted = sys.argv[1:] or [
        "packets",
        "fleet",
        "user",
        "daemon",
        "many",
        "start",
        "buses",
        "delivery",
        "recorder",
        "alerts",
        "targets",
        "console",
        "trust",
    ]
    good = True
    with tempfile.TemporaryDirectory() as name:
        wire = _wire(Path(name))
        runs = {
            "packets": lambda: packet_loop.one_capture(wire),
            "fleet": lambda: packet_loop.sixteen_captures(wire),
            "user": lambda: user.figures(wire, Path(name)),
            "daemon": lambda: daemon.figures(wire, Path(name)),
            "many": lambda: many.figures(wire, Path(name)),
            "start": lambda: start.figures(Path(name)),
            "buses": lambda: buses.figures(Path(name)),
            "recorder": lambda: recorder.figures(wire, Path(name)),
            "alerts": lambda: alerts.figures(wire, Path(name)),
            "targets": lambda: targets.figures(Path(name), wire.program),
            "console": lambda: console.figures(wire, Path(name)),
            "trust": lambda: trust.figures(wire, Path(name)),
            "soak": lambda: soak.figures(wire, Path(name)),
            "delivery": lambda: delivery.figures(wire, Path(name)),
        }
        for run in wanted:
            for figure in runs[run]():
                print(figure.line(), flush=True)
                good = good and figure.good
    sys.exit(0 if good else 1)


def _wire(directory: Path) -> Wire:
    sender = directory / "sender"
    subprocess.run(["gcc", "-O2", "-o", sender, Path(__file__).with_name("sender.c")], check=True)
    wire = Wire("bench0", "bench1", sender)
    for command in (
        "mount --make-rprivate /",
        "mount -t sysfs sysfs /sys",
        "ip link set lo up",
        "ip link add bench0 type veth peer name bench1",
        "ip link set bench0 up",
        "ip link set bench1 up",
    ):
        subprocess.run(command.split(), check=True)
    for name in (wire.near, wire.far):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    return wire


if __name__ == "__main__":
    main()
