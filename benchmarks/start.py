"""How fast the command starts, compared with a program that only uses typer, run in turns."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Figure
from tests.servers import PCAPDAEMON

ROUNDS = 20
BARE = """
import typer
app = typer.Typer()
@app.callback(invoke_without_command=True)
def top(version: bool = typer.Option(False, "--version")) -> None:
    if version:
        print("bare")
        raise typer.Exit
@app.command()
def other() -> None: ...
app()
"""


def figures(directory: Path) -> list[Figure]:
    """Measure `--version` of both programs."""
    (directory / "bare.py").write_text(BARE)
    bare = [sys.executable, str(directory / "bare.py"), "--version"]
    ours, theirs = [], []
    for _ in range(ROUNDS + 1):
        theirs.append(_seconds(bare))
        ours.append(_seconds([str(PCAPDAEMON), "--version"]))
    # The first round warms up.
    ratios = [one / other for one, other in zip(ours[1:], theirs[1:], strict=True)]
    return [
        Figure("pcapdaemon --version", statistics.median(ours[1:]), "s"),
        Figure("a bare typer program --version", statistics.median(theirs[1:]), "s"),
        Figure("ratio", statistics.median(ratios), "ratio", most=1.5),
    ]


def _seconds(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun
