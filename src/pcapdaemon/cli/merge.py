"""`pcapdaemon merge`: several savefiles in one."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.records import refuse_unwritable

Files = Annotated[list[Path], typer.Argument(help="pcap and pcapng files, also compressed.")]
Write = Annotated[Path, typer.Option("-w", "--write", help="The pcapng file to write.")]


def merge(files: Files, write: Write) -> None:
    """Merge savefiles, for example of several nodes, into one pcapng file in time order.

    Each interface of each file has a description of its own there: the file's name and the
    interface's.

    Example: pcapdaemon merge node1-eth0.pcap node2-eth0.pcap -w both.pcapng
    """
    if missing := [f"{file}: no such file" for file in files if not file.is_file()]:
        fail(1, missing)
    if write.exists() and not write.is_file():
        fail(2, [f"{write}: is no file"], "name a file with -w")
    refuse_unwritable(str(write))
    _write(files, write)


def _write(files: list[Path], target: Path) -> None:
    """Write the merged file, which is replaced only when all of it is there."""
    from pcapdaemon.core.errors import NotASavefile
    from pcapdaemon.savefile.merging import Part, merged

    with (
        ExitStack() as opened,
        NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as made,
    ):
        opened.callback(Path(made.name).unlink, missing_ok=True)
        labels = _labels(files)
        parts = [
            Part(label, opened.enter_context(file.open("rb")))
            for label, file in zip(labels, files, strict=True)
        ]
        damaged: list[str] = []
        try:
            for piece in merged(parts, "\n".join(map(str, files)), damaged):
                made.write(piece)
        except NotASavefile as error:
            fail(1, [str(error)], "pass pcap or pcapng files")
        made.flush()
        os.chmod(made.name, 0o640 & ~_umask())
        os.replace(made.name, target)
        for words in damaged:
            print(f"warning: {words}", file=sys.stderr)


def _labels(files: list[Path]) -> list[str]:
    """Return the names of the files without their ends, or their paths where names are equal."""
    stems = [file.name.split(".pcap", 1)[0] for file in files]
    return [
        stem if stems.count(stem) == 1 else str(file)
        for stem, file in zip(stems, files, strict=True)
    ]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
