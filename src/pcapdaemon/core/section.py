"""The base of every section of the configuration: strict types. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pcapdaemon.core.message import json_type


class Section(BaseModel):
    """One `[section]` of the configuration, frozen.

    The module of a source or destination defines its own section.
    """

    # many sections are never in a configuration, and building what checks them takes memory
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", defer_build=True)

    def files(self) -> tuple[str, ...]:
        """Return files with credentials that are read though the section does not name them."""
        return ()

    def flaws(self) -> list[str]:
        """Return warnings about settings that are allowed but dangerous, for each start."""
        return []


def secret_names(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section that hold secrets; each also has KEY_file and KEY_env."""
    return [
        name for name, field in section.model_fields.items() if "SecretStr" in str(field.annotation)
    ]


def one_or_several(value: object) -> object:
    """Return a tuple for a text that is given where several may be."""
    return (value,) if isinstance(value, str) and value else value


KINDS = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "an array of strings",
    "dict_type": "an object",
}
"""Errors of pydantic about a type, and what the value must be."""

BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def in_words(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, for people, without the value. `error` is pydantic's."""
    kind, context = error["type"], error.get("ctx", {})
    if right := KINDS.get(kind):
        return f"must be {right}, not {json_type(error['input'])}"
    if bound := BOUNDS.get(kind):
        return f"must be {bound.format(**context)}"
    if kind in ("string_too_long", "string_too_short", "too_long", "too_short"):
        most = "at most" if kind.endswith("long") else "at least"
        things = "items" if isinstance(error.get("input"), list | tuple | dict) else "characters"
        return f"must have {most} {context.get('max_length', context.get('min_length'))} {things}"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
