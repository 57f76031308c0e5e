"""Writes the pages under docs/reference that can be made from the program; a test keeps them true."""

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pcapdaemon import destinations, sources
from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.capture.interface import InterfaceSettings
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.cli.main import app
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.cause import Cause
from pcapdaemon.core.flow import Flow
from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.core.message import MAX_MESSAGE
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.profile import Profile
from pcapdaemon.core.request import CaptureRequest, json_schema
from pcapdaemon.core.requester import Group, Requester
from pcapdaemon.core.section import secret_names
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.results.callback_settings import CallbackSettings
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.telemetry.metrics import Levels, Metrics
from pcapdaemon.telemetry.output import Syslog
from pcapdaemon.triggers.settings import TriggerSettings
from pcapdaemon.trust.settings import OidcSettings, TrustSettings
from scripts.words import WORDS

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- written by scripts/generate_docs.py; change the program, not this file -->\n\n"

MESSAGE = f"""# The message

A message is a JSON object of at most {MAX_MESSAGE} bytes.
It is the same on every bus.

Names match without regard to case, and the last of two equal names wins.
Unknown fields are ignored and named in a warning.
A value of the wrong type is a rejection, and all problems are reported at once.
JSON is read as strictly as Go reads it: no `NaN`, no byte order mark, no `50.0` and no `true` for an integer.

Packets, bytes, duration and idle timeout are limits, and whichever is reached first ends the capture.
Each interface gives a capture and a savefile of its own, unless `merge` is true.
A capture without a packet gives no savefile.

```json
{{"node": "any", "interface": ["eth0"], "bpf": "port 53", "packets": 100, "timeout": 15, "customer": "acme"}}
```

"""

AFTER_THE_FIELDS = """A savefile has tags.
They are comma separated, stand in this order, and absent ones are left out:
`customer:C,alertid:N,<tags>,alias:A,node:H,interface:I,snaplength:S`.

For programs there is a JSON Schema: [message.schema.json](message.schema.json).

## Other messages

`{"cancel": "ID"}` ends the captures of the request of that id on every node that runs it.
What they have is delivered.
If other requests joined it (`[general] coalesce`), theirs go on.

`{"list": true}` has nodes answer what runs.

`node`, `nodere` and `labels` may accompany both and say which nodes are meant.
`id` may too, and becomes the id of the answer.
`issued_at` may, because a signed message needs it.
Nothing else may.

## Results

Over HTTP the answer is the response.
`GET /captures/ID` and `GET /events` report what happens after it: see [HTTP](../how-to/http.md).

On a bus whose section has `results`, and to `[results] webhook`, each node that is meant sends CloudEvents 1.0 JSON objects.
`type` is `pcapdaemon.request.` and what happened, `subject` is the request's id, `source` is `/pcapdaemon/NODE`.
`data` has `node`, `id` and more: [the words on the wire](wire.md) explains every name.
By default only `rejected` and `finished` are sent (`[results] events`).
A request chooses by `reply_events`.
See [Receive results](../how-to/results.md).

| result | what it reports |
|---|---|
| `rejected` | Nothing is done: `kind`, all `problems`, a `hint`. |
| `accepted` | Captures begin on the `interface`s. With `joined`, those of that request serve this one too. With `again`, it was accepted before. |
| `started` | The filter is set on an `interface`. |
| `progress` | What a capture has so far, once a second. |
| `captured` | A capture ended: `stop_reason`, counts, times, `sha256`, `complete` or what is `missing`. |
| `delivered` | A `destination` has the savefile: `receipt`. |
| `spooled` | Destinations do not have the savefile yet, and it waits in the spool: `pending`, `reason`. |
| `failed` | A capture never began, or a `destination` will not get the savefile: `reason`. |
| `finished` | The whole record. If `final` is false, a savefile waits in the spool and another `finished` follows. |
| `dryrun`, `list`, `cancelled` | The answer to such a message. They are always sent. |

| `kind` of a rejection | why |
|---|---|
| `invalid` | It can't be obeyed, for all the `problems`. |
| `expired` | It is older than `[general] maxage`. |
| `busy` | No room is left, or too many came within a minute. It may be sent again. |
| `untrusted` | It is not signed, or its signature is wrong (`[general] signatures`). |
| `forbidden` | The policy of its requester does not allow it (`[[requester]]`). |
| `conflict` | A request of this id runs, and `[general] dedupe` is 0. |
| `unavailable` | This node can't capture now, or is shutting down. |

A request that was accepted before is answered as it was then, with a warning.
"""

CONFIGURATION = """# The configuration

The configuration is a TOML file, named by `--config`.
Names of sections and keys match without regard to case.
Unknown names are warned of at start.
A wrong value is an error that names file, section and key, and all errors are reported at once.
At least one source (`listen`) and one destination must be on.

`SIGHUP` makes the daemon read the file again.
It obeys the file whole or refuses it whole, and running captures go on.

Every secret can be written elsewhere.
`KEY_file` names a file that holds it; `$CREDENTIALS_DIRECTORY` and other variables are filled in.
`KEY_env` names an environment variable.

"""

WIRE = """# The words on the wire

Answers, results, the API, log lines, the spool's manifests and the comment in a pcapng savefile use one word for one thing.
They are JSON, or become it.
If a message has a field for the thing, that field's name is the word, and [the message](message.md) explains it.
These are the others.
Moments are seconds since the epoch.

"""

METRICS = """# Metrics

`GET /metrics` serves these in the text format of Prometheus.
Labels are names from the configuration and kinds of outcomes, never anything that a message brings.

"""

COMMANDS = """# The command line

Data goes to stdout, everything else to stderr.
The status is 0 if all went well, 1 if something failed, and 2 for a mistake on the command line or in the configuration.
It is 3 if `capture` captured no packet, or if a request is for another node, and 130 after Ctrl-C.
The original's flags work with one dash or two, without the word `run`: see [Migrate from the original](../how-to/migrate.md).

"""


def message() -> str:
    """The page about the message."""
    return f"{NOTE}{MESSAGE}{_table(CaptureRequest)}{AFTER_THE_FIELDS}"


def configuration() -> str:
    """The page about the configuration."""
    parts = [f"## `{title}`\n\n{''.join(map(_table, models))}" for title, models in sections()]
    return (NOTE + CONFIGURATION + "\n".join(parts)).rstrip() + "\n"


def wire() -> str:
    """The page about the words on the wire."""
    lines = [f"| `{word}` | {meaning} |" for word, meaning in WORDS.items()]
    return f"{NOTE}{WIRE}| word | meaning |\n|---|---|\n" + "\n".join(lines) + "\n"


def metrics() -> str:
    """The page about the metrics."""
    status = RecorderStatus("eth0", True, "", "", 0, "", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    text = Metrics(Levels(recorders=lambda: [status])).text().decode()
    words = dict(re.findall(r"# HELP (\w+) (.*)", text))
    lines = [
        f"| `{name}` | {kind} | {words[name]} |"
        for name, kind in re.findall(r"# TYPE (\w+) (\w+)", text)
    ]
    return f"{NOTE}{METRICS}| name | type | meaning |\n|---|---|---|\n" + "\n".join(lines) + "\n"


def commands() -> str:
    """The page about the command line."""
    parts = [
        f"## `{name}`\n\n{_command(command)}"
        for name, command in walk("pcapdaemon", typer.main.get_command(app))
    ]
    return (NOTE + COMMANDS + "\n".join(parts)).rstrip() + "\n"


def walk(name: str, command: typing.Any) -> Iterator[tuple[str, typing.Any]]:
    """The commands below one, each with its whole name."""
    for word, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from walk(f"{name} {word}", one)
        else:
            yield f"{name} {word}", one


def _command(command: typing.Any) -> str:
    words, _, example = (command.help or "").partition("Example: ")
    rows = []
    for one in command.params:
        if one.name != "help" and not getattr(one, "hidden", False):
            names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)).replace(
                "`" + one.name + "`", one.name.upper()
            )
            rows.append(
                f"| {names} | {(getattr(one, 'help', '') or '').replace('|', chr(92) + '|')} |"
            )
    table = "| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    shown = f"```console\n$ {example.strip()}\n```\n\n" if example else ""
    return f"{' '.join(words.split())}\n\n{shown}{table}"


def sections() -> Iterator[tuple[str, list[type[BaseModel]]]]:
    """The sections in the order of the page.

    Those of sources and destinations come from their tables.
    """
    yield "[general]", [Policy, *_of_plugins(destinations, "general")]
    for section in dict.fromkeys(plugin.section for plugin in sources.TABLE.values()):
        yield f"[{section}]", _of_plugins(sources, section)
    yield "[[interface]]", [InterfaceSettings]
    yield "[[recorder]]", [RecorderSettings]
    yield "[[trigger]]", [TriggerSettings]
    yield "[[profile]]", [Profile]
    for section in dict.fromkeys(plugin.section for plugin in destinations.TABLE.values()):
        if section != "general":
            yield f"[{section}]", _of_plugins(destinations, section)
    yield "[delivery]", [DeliverySettings]
    yield "[spool]", [SpoolSettings]
    yield "[results]", [ResultsSettings]
    yield "[[callback]]", [CallbackSettings]
    yield "[capture]", [CaptureSettings]
    yield "[targets]", [TargetSettings]
    yield "[console]", [ConsoleSettings]
    yield "[trust]", [TrustSettings]
    yield "[oidc]", [OidcSettings]
    yield "[audit]", [AuditSettings]
    yield "[[requester]]", [Requester]
    yield "[[group]]", [Group]
    yield "[syslog]", [Syslog]


def _of_plugins(kind: typing.Any, section: str) -> list[type[BaseModel]]:
    """The settings of the plug-ins of a section; several may share them."""
    found = [
        kind.load(name).Settings for name, plugin in kind.TABLE.items() if plugin.section == section
    ]
    return list(dict.fromkeys(found))


def _table(model: type[BaseModel]) -> str:
    lines = [
        f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {_words(model, name, field)} |"
        for name, field in model.model_fields.items()
    ]
    return "| name | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(lines) + "\n\n"


def _words(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    secret = f" A secret: also `{name}_file`, `{name}_env`." if name in secret_names(model) else ""
    return f"{field.description}{secret}".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, (), "", {}) else f"`{json.dumps(field.default)}`"


def _type(field: FieldInfo) -> str:
    def name(kind: object) -> str:
        if typing.get_origin(kind) is typing.Annotated:
            return name(typing.get_args(kind)[0])
        if typing.get_origin(kind) is tuple:
            return "array of strings"
        if typing.get_origin(kind) is dict:
            return "table"
        if typing.get_origin(kind) is typing.Literal:
            return " or ".join(f"`{one}`" for one in typing.get_args(kind))
        if arguments := typing.get_args(kind):
            return " or ".join(
                dict.fromkeys(name(one) for one in arguments if one is not type(None))
            )
        words = {
            int: "integer",
            str: "string",
            bool: "true/false",
            float: "number",
            Flow: "object",
            Cause: "object",
        }
        # any object may be asked for
        return words.get(kind, "string")  # type: ignore[call-overload,no-any-return]

    return name(field.annotation)


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    return {
        REFERENCE / "message.md": message(),
        REFERENCE / "message.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        REFERENCE / "configuration.md": configuration(),
        REFERENCE / "wire.md": wire(),
        REFERENCE / "metrics.md": metrics(),
        REFERENCE / "command-line.md": commands(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
