"""The command `pcapdaemon policy explain`: what a node's policy makes of a request."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from pcapdaemon.core.plan import CapturePlan, Rejection
    from pcapdaemon.core.requester import Standing
    from pcapdaemon.settings import Settings

app = typer.Typer(help="Explain what requesters may do.", no_args_is_help=True)


@app.callback()
def _policy() -> None:
    """Explain what requesters may do."""  # with a callback, one command keeps its name


@app.command("explain")
def policy_explain(
    request: Annotated[str, typer.Argument(help="A file with a request; - is stdin.")],
    config_file: ConfigOption = None,
    as_: Annotated[
        str, typer.Option("--as", help="The requester. Absent: whoever signed it, or unsigned.")
    ] = "",
    source: Annotated[str, typer.Option(help="The source that it would come from.")] = "redis",
    json_: JsonOption = False,
) -> None:
    """Say why a request would be allowed on this node or not, and by which rule.

    Nothing is sent and nothing is captured. The status is 1 if it would be refused.

    Example: pcapdaemon policy explain request.json --config pcapdaemon.toml --as oncall
    """
    from pcapdaemon import config, tables
    from pcapdaemon.core.plan import Rejection

    if config_file is None:
        fail(2, ["--config is missing"], "name the configuration of the node")
    settings = config.validate(tables.read(config_file), str(config_file))
    try:
        body = sys.stdin.buffer.read() if request == "-" else Path(request).read_bytes()
    except OSError as error:
        fail(1, [f"{request}: {error.strerror}"])
    standing = _standing(settings, body, as_, source)
    found = standing if isinstance(standing, Rejection) else _judged(settings, standing, source)
    facts = _facts(standing, found)
    print(json.dumps(facts) if json_ else "\n".join(_words(facts)))
    if isinstance(found, Rejection):
        raise SystemExit(1)


def _standing(settings: "Settings", body: bytes, as_: str, source: str) -> "Standing | Rejection":
    from pcapdaemon.core.message import UnreadableMessage, read
    from pcapdaemon.settings import node_name
    from pcapdaemon.sources.base import Message
    from pcapdaemon.trust.requesters import Requesters
    from pcapdaemon.trust.trust import Trust

    try:
        fields = read(body)
    except UnreadableMessage as error:
        fail(1, [str(error)])
    table = Requesters(settings.requester, settings.group)
    if as_ and table:
        if table.named(as_) is None:
            fail(2, [f"there is no [[requester]] {as_}"], "run 'pcapdaemon keys show'")
        fields.pop("jws", None)  # it would count, whoever is named
    trust = Trust(lambda _: None, 0.0)
    trust.configure(node_name(settings), settings.general, settings.trust, table)
    return trust.standing(Message(body, source, requester=as_), fields)


def _judged(
    settings: "Settings", standing: "Standing", source: str
) -> "CapturePlan | Rejection | str":
    from pcapdaemon.core import intake
    from pcapdaemon.core.choice import Surroundings
    from pcapdaemon.core.orders import Order
    from pcapdaemon.core.plan import Rejection
    from pcapdaemon.core.request import Problem, new_id
    from pcapdaemon.core.requester import Right, may
    from pcapdaemon.core.target import NOTHING_FOUND
    from pcapdaemon.settings import interfaces_of, node_name
    from pcapdaemon.targets.targets import Targets

    who, rights = standing.requester, standing.rights
    asked = intake.targets_of(standing.fields, settings.profiles)
    around = Surroundings(
        node_name(settings),
        time.time(),
        interfaces_of(settings),
        settings.aliases,
        requester=who,
        rights=rights,
        targets=asyncio.run(Targets(settings.targets).find(asked)) if asked else NOTHING_FOUND,
    )
    envelope = intake.Envelope(source, time.time(), new_id(), requester=who)
    view = intake.View(settings.general, around, lambda _: (), settings.profiles)
    judged = intake.judge(standing.fields, envelope, view)
    if not isinstance(judged, Order):
        return judged.plan
    verb: Right = "cancel" if judged.cancel else "list"
    if may(rights, verb, who, who):
        everybody = may(rights, verb, "", who)
        return f"{verb}: {'of everybody' if everybody else 'of its own requests'}"
    words = f"{verb} is not in [[requester]] may"
    return Rejection(judged.id, (Problem("", words),))


def _facts(
    standing: "Standing | Rejection", found: "CapturePlan | Rejection | str"
) -> dict[str, Any]:
    from pcapdaemon.audit.lines import granted
    from pcapdaemon.core.bounds import changes
    from pcapdaemon.core.plan import Rejection

    who = "" if isinstance(standing, Rejection) else standing.requester
    facts: dict[str, Any] = {"requester": who or "anybody"}
    if not isinstance(standing, Rejection):
        facts["rule"] = f"[[requester]] {who}" if standing.rights else "no [[requester]] counts"
        facts["key"] = standing.key
        facts["warnings"] = list(standing.warnings)
    if isinstance(found, Rejection):
        problems = [str(one) for one in found.problems]
        return {**facts, "allowed": False, "kind": found.kind, "problems": problems}
    if isinstance(found, str):
        return {**facts, "allowed": True, "order": found}
    rights = None if isinstance(standing, Rejection) else standing.rights
    facts["changes"] = list(changes(found.request, rights))
    return {**facts, "allowed": True, "granted": granted(found, "", "")["granted"]}


def _words(facts: dict[str, Any]) -> list[str]:
    lines = ["allowed" if facts["allowed"] else f"refused: {facts['kind']}"]
    for name, value in facts.items():
        if name in ("allowed", "kind") or value in ("", [], {}):
            continue
        if isinstance(value, dict):
            lines += [f"  {key}: {one}" for key, one in value.items() if one not in ("", [], {})]
        elif isinstance(value, list):
            lines += [f"  {name}: {one}" for one in value]
        else:
            lines.append(f"  {name}: {value}")
    return lines
