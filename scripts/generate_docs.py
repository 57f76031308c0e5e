"""Writes the pages under docs/reference from the models; a test keeps them true."""

import json
import typing
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pcapdaemon import destinations, sources
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import RecorderSettings
from pcapdaemon.config import InterfaceSettings
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import MAX_MESSAGE, CaptureRequest, json_schema
from pcapdaemon.core.section import secret_names
from pcapdaemon.delivery.delivery import DeliverySettings
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.telemetry.log import Syslog

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- written by scripts/generate_docs.py; change the models, not this file -->\n\n"


ORDERS = """## Other messages

`{"cancel": "ID"}` ends the captures of the request of that id on every node that runs it; what is there is delivered. Where other
requests have joined it (`[general] coalesce`), theirs go on. `{"list": true}` has nodes answer what runs. `node`, `nodere` and
`labels` may stand beside and say which nodes are meant, and `id`, which the answer then has; nothing else may.

## Results

Over HTTP the answer is the response, and the rest of the manifest is told by `GET /captures/ID` and `GET /events` ([http.md](../how-to/http.md)).
On a bus whose section has `results`, and to `[results] webhook`, each node that is meant sends CloudEvents 1.0 JSON objects: `type`
is `pcapdaemon.request.` and what happened, `subject` the request's id, `source` `/pcapdaemon/NODE`; `data` has `node`, `id` and more.
By default only `rejected` and `finished` are sent (`[results] events`); a request chooses by `reply_events`. More about all of
them: [results.md](../how-to/results.md).

| | |
|---|---|
| `rejected` | `kind`, all `problems`, a `hint` |
| `accepted` | captures begin on `interfaces`; with `joined`: those of that request serve this one too; with `again`: it was accepted before |
| `started` | the filter is set on an `interface` |
| `progress` | what it has so far, once a second |
| `captured` | it is over: `stop_reason`, counts, times, `sha256`, `complete` or what is `missing` |
| `delivered` | a `destination` has the savefile: `receipt` |
| `spooled` | destinations lack it, it is kept and tried again: `pending`, `reason` |
| `failed` | a capture never began, or a `destination` will not get the savefile: `reason` |
| `finished` | the whole manifest in one object; `final` is false where a savefile is still in the spool: then another one follows |
| `dryrun`, `list`, `cancelled` | what was asked for; always sent |

Kinds of a rejection:

| `kind` | |
|---|---|
| `invalid` | it can't be obeyed: all `problems` |
| `expired` | older than `[general] maxage` |
| `busy` | no room or too many a minute; may be sent again |
| `conflict` | a request of this id runs, and `[general] dedupe` is 0 |
| `unavailable` | this node can't capture now, or is shutting down |

A request that was accepted before is answered as it was then, with a warning.
"""


def message() -> str:
    """The page about the message."""
    return (
        f"{NOTE}# The message\n\nA JSON object of at most {MAX_MESSAGE} bytes, the same on every bus. Names match without regard "
        "to case, the last one wins; unknown fields are ignored and named in a warning; a wrong type is a rejection, and all "
        "problems are told at once. JSON is read as strictly as Go does: no `NaN`, no byte order mark, no `50.0` and no "
        "`true` for an integer.\n\nWhichever of packets, bytes, duration and idle timeout is reached first ends the capture. "
        "Each interface gives a capture and a savefile of its own (but see `merge`); a capture without a packet gives none.\n\n"
        "```json\n"
        '{"node": "any", "interface": ["eth0"], "bpf": "port 53", "packets": 100, "timeout": 15, "customer": "acme"}\n'
        f"```\n\n{_table(CaptureRequest)}\n"
        "Tags of a savefile, in this order, comma separated, absent ones left out: "
        "`customer:C,alertid:N,<tags>,alias:A,node:H,interface:I,snaplength:S`.\n\n"
        "For programs there is a JSON Schema: [message.schema.json](message.schema.json).\n\n"
        f"{ORDERS}"
    )


def configuration() -> str:
    """The page about the configuration."""
    sections: list[tuple[str, list[type[BaseModel]]]] = [
        ("[general]", [Policy, *_shared("general")]),
        ("[http]", [sources.load("http").Settings]),
        ("[kafka]", [sources.load("kafka").Settings]),
        ("[redis]", [sources.load("redis").Settings]),
        ("[sqs]", [sources.load("sqs").Settings]),
        ("[[interface]]", [InterfaceSettings]),
        ("[[recorder]]", [RecorderSettings]),
        ("[s3]", _shared("s3")),
        ("[cloudshark]", _shared("cloudshark")),
        ("[delivery]", [DeliverySettings]),
        ("[spool]", [SpoolSettings]),
        ("[results]", [ResultsSettings]),
        ("[capture]", [CaptureSettings]),
        ("[syslog]", [Syslog]),
    ]
    parts = [f"## `{title}`\n\n" + "".join(_table(model) for model in models) for title, models in sections]
    return (
        f"{NOTE}# The configuration\n\nA TOML file, named by `--config`. Names of sections and keys match without regard to "
        "case. What means nothing is warned of at start; a wrong value is an error that names file, section and key, all of "
        "them at once. At least one source (`listen`) and one destination must be on. `SIGHUP` has the file read again: it "
        "is obeyed whole or refused whole, and running captures go on.\n\nEvery secret can be written elsewhere: `KEY_file` "
        "names a file that holds it (`$CREDENTIALS_DIRECTORY` and other variables are filled in), `KEY_env` an environment "
        "variable.\n\n" + "\n".join(parts)
    )


def _shared(section: str) -> list[type[BaseModel]]:
    return [destinations.load(name).Settings for name, plugin in destinations.TABLE.items() if plugin.section == section]


def _table(model: type[BaseModel]) -> str:
    lines = [f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {_words(model, name, field)} |" for name, field in
             model.model_fields.items()]  # fmt: skip
    return "| name | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(lines) + "\n\n"


def _words(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    secret = f" A secret: also `{name}_file`, `{name}_env`." if name in secret_names(model) else ""
    return f"{field.description}{secret}".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else "" if field.default in (None, (), "", {}) else f"`{json.dumps(field.default)}`"


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
            return " or ".join(dict.fromkeys(name(one) for one in arguments if one is not type(None)))
        words = {int: "integer", str: "string", bool: "true/false", float: "number"}
        return words.get(kind, "string")  # type: ignore[call-overload,no-any-return]  # any object may be asked for

    return name(field.annotation)


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    return {
        REFERENCE / "message.md": message(),
        REFERENCE / "message.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        REFERENCE / "configuration.md": configuration(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
