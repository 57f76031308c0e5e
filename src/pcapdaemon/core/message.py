"""The body of a message: JSON, read as strictly as Go reads it. Pure."""

import json
from typing import Any, NoReturn

MAX_MESSAGE = 65536
"""Most bytes of a message. Longer messages are rejected without being read."""


class UnreadableMessage(Exception):
    """The body is not a valid JSON object; the text says what is wrong, and where."""


def read(body: bytes) -> dict[str, Any]:
    """Decode a message as Go's encoding/json would, with names folded to lower case.

    If names differ only in case, the last one wins. `null` changes nothing. Bytes that are not
    UTF-8 become U+FFFD. Raises UnreadableMessage.
    """
    if len(body) > MAX_MESSAGE:
        raise UnreadableMessage(f"{len(body)} bytes long; a message may have at most {MAX_MESSAGE}")
    try:
        fields = _DECODER.decode(body.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        raise UnreadableMessage(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError:  # Python limits the digits of an integer
        raise UnreadableMessage("a number has too many digits") from None
    except RecursionError:
        raise UnreadableMessage("not a request: nested too deeply") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise UnreadableMessage(f"not a request: must be a JSON object, not {json_type(fields)}")
    return fields


def json_type(value: object) -> str:
    """Return the type of a JSON value, in words."""
    names = {
        bool: "true or false",
        int: "an integer",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return {**names, float: "a number with a fraction or exponent"}.get(type(value), "null")


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.casefold(): _whole(value) for name, value in pairs if value is not None}


def _whole(value: Any) -> Any:
    # JSON can contain half of a surrogate pair (\\ud800), which can't be encoded
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value  # _fold has already converted the values of a nested object


def _no_constant(name: str) -> NoReturn:
    raise UnreadableMessage(f"not JSON: {name} is not allowed")


_DECODER = json.JSONDecoder(object_pairs_hook=_fold, parse_constant=_no_constant)
