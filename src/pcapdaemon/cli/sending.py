"""Sends a request over HTTP or a bus, and shows the results, for `pcapdaemon request`."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pcapdaemon import config, sources, tables
from pcapdaemon.cli import client, records, show, watching
from pcapdaemon.cli.failing import fail
from pcapdaemon.core.errors import PcapdaemonError
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import new_id


def values_of(config_file: Path | None) -> tuple[dict[str, Any], str]:
    """Return the tables of the configuration, and its name in messages."""
    return (tables.read(config_file), str(config_file)) if config_file else ({}, "command line")


def by_bus(
    via: str,
    values: dict[str, Any],
    origin: str,
    body: dict[str, Any],
    wait: float,
    as_json: bool,
    seal: client.Seal = client.as_it_is,
) -> None:
    """Send a message over a bus, and follow it on all nodes that answer within `wait` seconds."""
    if via not in sources.buses():
        fail(2, [f"--via: must be one of {', '.join(('http', *sources.buses()))}, not {via}"])
    bus = config.bus(via, values, origin)
    keys = values.get("results", {}).get("node_keys", ())
    opened = _opening(keys) if keys else bytes
    with watching.Watch() as watch:
        found, receivers = asyncio.run(client.ask(bus, body, wait, watch.show, seal, opened))
    show.nodes_or_receivers(found, receivers, bus.address, as_json)


def _opening(keys: list[str]) -> Callable[[bytes], bytes | None]:
    from pcapdaemon.trust.results import opening

    try:
        return opening(keys)
    except (ValueError, TypeError) as error:
        fail(2, [f"[results] node_keys: {error}"])


def by_http(
    values: dict[str, Any],
    urls: list[str] | None,
    token_file: Path | None,
    body: dict[str, Any],
    wait: bool,
    as_json: bool,
    write: str | None = None,
    seal: client.Seal = client.as_it_is,
) -> None:
    """Send a message to the APIs at `urls`, or to that of the configuration.

    `write` is where the savefile is written that one of them has in the end.
    """
    apis = [client.api_of(values, one, token_file) for one in (urls or [""])]
    if write:
        records.refuse_unwritable(write)
    needs_no_node = {"node", "nodere", "cancel", "list"} & body.keys()
    message = body if needs_no_node else {"node": "any", **body}
    if len(apis) > 1 and wait:
        with watching.Watch() as watch:
            found = client.ask_each(apis, message, watch.show, seal)
        show.nodes(found, as_json)
        return
    for api in apis:
        record = _sent(api, message, wait, seal)
        show.record(record, as_json, sys.stderr if write == "-" else sys.stdout)
        if write:
            records.fetch(api, record, write)


def _sent(
    api: client.ApiClient, message: dict[str, Any], wait: bool, seal: client.Seal
) -> dict[str, Any]:
    """Send a message, and return its record, with `wait` when it is finished."""
    order = {"cancel", "list"} & message.keys()
    message = message if order else {**message, "id": message.get("id") or new_id()}
    try:
        record = api.submit(seal(message))
        if record.get("state") == RequestState.RUNNING and wait:
            try:
                record = watching.follow(api, record["id"])
            except client.NotAllowed as error:  # a signature allows the request, but not this
                words = f"it runs, but can't be followed without a token: {error}"
                show.errors.print(words, markup=False)
    except KeyboardInterrupt:  # the daemon may have accepted it, though no answer came yet
        with suppress(PcapdaemonError):
            api.stop(str(message.get("id")))
        raise
    return record
