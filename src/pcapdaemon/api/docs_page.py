"""The page at /docs: the OpenAPI description as plain HTML. Pure.

FastAPI's own page loads scripts from a content delivery network. They could start captures here,
and a host without internet access would show nothing.
"""

from html import escape
from typing import Any

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td{padding:0 1em 0"
    " 0;vertical-align:top}"
)


def render(openapi: dict[str, Any]) -> str:
    """Return the page for an OpenAPI 3.1 document."""
    info = openapi["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    intro = (
        f"<p>{escape(info['description'])} For programs: <a"
        " href='/openapi.json'>/openapi.json</a></p>"
    )
    return (
        "<!doctype html><html lang=en><meta"
        f" charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        + (intro + "".join(operations))
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = {p["name"]: {**p, **p["schema"]} for p in operation.get("parameters", [])}
    body = (
        operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("schema", {})
    )
    answers = {
        status: {"description": a["description"]} for status, a in operation["responses"].items()
    }
    return (
        f"<h2><code>{method.upper()}"
        f" {escape(path.replace(':path', ''))}</code></h2><p>{escape(operation['description'])}</p>"
        + _table("Parameters", parameters)
        + _table("JSON body", body.get("properties", {}))
        + _table("Answers", answers)
    )


def _table(title: str, rows: dict[str, Any]) -> str:
    lines = [
        f"<tr><td><code>{escape(name)}</code><td>{escape(_type(row))}"
        f"<td>{escape(row.get('description', ''))}"
        for name, row in rows.items()
    ]
    return f"<h3>{title}</h3><table>{''.join(lines)}</table>" if rows else ""


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    items = f" of {_type(schema['items'])}s" if "items" in schema else ""
    return f"{schema.get('type', '')}{items}"
