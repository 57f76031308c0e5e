"""`pcapdaemon mcp`: captures for assistants, over the Model Context Protocol."""

from typing import Annotated

import typer

from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail


def mcp(
    url: options.Urls = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    allow_capture: Annotated[
        bool, typer.Option("--allow-capture", help="Allow captures; otherwise it only reads.")
    ] = False,
) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for assistants and editors.

    Its tools list nodes, check filters, follow requests and look into savefiles. With
    --allow-capture, they start and stop captures too.

    Example: pcapdaemon mcp --url http://node1:8723 --token-file token
    """
    from pcapdaemon.cli import client
    from pcapdaemon.cli.sending import values_of

    try:
        from pcapdaemon.cli import assistant
    except ImportError:
        fail(1, ["the library of the protocol is missing"], "pip install 'pcapdaemon[mcp]'")
    values, _ = values_of(config_file)
    apis = [client.api_of(values, one, token_file) for one in (url or [""])]
    assistant.server(apis, allow_capture).run()
