"""How long a pod's interface takes to be found on a node with many pods, beside one `ip link`."""

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Figure
from pcapdaemon.core.target import Asked
from pcapdaemon.targets.lookup import look_up
from pcapdaemon.targets.settings import TargetSettings
from tests.targets import Cluster

PODS, ROUNDS = 200, 21


def figures(directory: Path, sender: Path) -> list[Figure]:
    """Measure with PODS pods, each in a namespace of its own."""
    cluster = Cluster(directory / "cluster", sender)
    try:
        for number in range(PODS):
            cluster.pod(f"shop/web-{number}")
        settings = TargetSettings(logs=str(cluster.logs), cgroup=str(cluster.cgroup), most=1024)
        one, every = Asked(pods=("shop/web-100",)), Asked(pods=("shop/*",))
        assert len(look_up(one, settings).interfaces) == 1
        assert len(look_up(every, settings).interfaces) == PODS
        rounds = [
            (
                _milliseconds(lambda: look_up(one, settings)),
                _milliseconds(lambda: look_up(every, settings)),
                _milliseconds(_ip_link),
            )
            for _ in range(ROUNDS)
        ]
    finally:
        cluster.close()
    named, all_of_them, peer = (statistics.median(values) for values in zip(*rounds, strict=True))
    return [
        Figure(f"targets: one of {PODS} pods", named, "ms", most=50),
        Figure(f"targets: all {PODS} pods", all_of_them, "ms", most=50),
        Figure("ip -o link, a process", peer, "ms"),
    ]


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _ip_link() -> None:
    subprocess.run(["ip", "-o", "link"], check=True, stdout=subprocess.DEVNULL)
