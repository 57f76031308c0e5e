"""The manual page pcapdaemon(1), made from the commands of the program."""

import re
import sys
import typing
from pathlib import Path

import typer

from pcapdaemon import __version__
from pcapdaemon.cli.main import app
from scripts.generate_docs import walk

HEAD = r""".TH PCAPDAEMON 1 "" "pcapdaemon {version}" "User Commands"
.SH NAME
pcapdaemon \- packet captures on request, for a whole fleet
.SH SYNOPSIS
.B pcapdaemon run
[\-\-config FILE]
.br
.B pcapdaemon
COMMAND [OPTIONS]
.SH DESCRIPTION
.B pcapdaemon run
waits for messages on Kafka, Redis, SQS or HTTP, or for alerts of other systems.
Each message asks for a packet capture.
Captures are kept in memory within hard limits, may begin before the message, and are delivered to a
directory, to S3 or to CloudShark.
The other commands send messages, show what became of them, capture at once, and check the
configuration.
.SH COMMANDS
"""
TAIL = r""".SH FILES
.TP
.I /etc/pcapdaemon/pcapdaemon.toml
The configuration of the service.
.TP
.I /var/lib/pcapdaemon
Savefiles, the spool, and the requests that were accepted.
.SH EXIT STATUS
0: it worked.
1: it failed.
2: a mistake in the configuration or on the command line.
3: no packet was captured.
.SH SEE ALSO
.BR pcap-filter (7),
.BR tcpdump (1),
.BR systemctl (1)
"""


def manual() -> str:
    """Return the page in the language of man(7)."""
    commands = "".join(
        _command(name, command) for name, command in walk("pcapdaemon", typer.main.get_command(app))
    )
    return HEAD.format(version=__version__) + commands + TAIL


def _command(name: str, command: typing.Any) -> str:
    lines = [f".SS {_text(name)}"]
    for paragraph in (command.help or "").strip().split("\n\n"):
        lines += [_text(" ".join(paragraph.split())), ".PP"]
    for option in command.params:
        if getattr(option, "hidden", False) or not getattr(option, "help", None):
            continue
        names = ", ".join((*option.opts, *option.secondary_opts))
        kind = getattr(option, "metavar", None) or option.display_name_raw
        takes = "" if getattr(option, "is_flag", False) else f" {kind.upper()}"
        lines += [".TP", rf"\fB{_text(names)}\fR{_text(takes)}", _text(option.help)]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(manual())
