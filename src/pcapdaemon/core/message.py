"""The body of a message: JSON, read as strictly as Go reads it. Pure."""

import json
from collections.abc import Mapping
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
    if kind := _encoding_of(body):
        raise UnreadableMessage(f"not JSON: {kind}; send the JSON text itself, in UTF-8")
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


BEGINNINGS = {
    b"\xef\xbb\xbf": "it begins with a byte order mark",
    b"\xff\xfe": "it is UTF-16",
    b"\xfe\xff": "it is UTF-16",
    b"\x1f\x8b": "it is compressed with gzip",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd",
    b"\x04\x22\x4d\x18": "it is compressed with lz4",
    b"\0": "it begins with the five bytes of a schema registry",
    b"eyJ": "it is base64",
    b"Obj\x01": "it is an Avro file",
}
"""The first bytes of what is often sent instead of JSON."""

ALERTS = {
    ("receiver", "alerts"): "an alert of Prometheus Alertmanager or Grafana",
    ("output_fields", "rule"): "a Falco alert",
    ("event_type", "flow_id"): "a Suricata event",
    ("specversion", "type"): "a CloudEvent",
    ("type", "topicarn"): "a notification of Amazon SNS",
    ("records",): "an event notification of Amazon S3 or Lambda",
    ("s3bucketname", "s3key"): "a pointer to a message in S3",
    ("id.orig_h", "uid"): "a Zeek log line",
    ("rule", "agent", "manager"): "an alert of Wazuh",
}
"""Fields, in lower case, by which well-known messages are recognized."""


def _encoding_of(body: bytes) -> str:
    return next((words for start, words in BEGINNINGS.items() if body.startswith(start)), "")


def alert_of(fields: Mapping[str, Any]) -> str:
    """Return what a message is if it is a well-known one of another program, or ""."""
    return next((words for names, words in ALERTS.items() if all(n in fields for n in names)), "")


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
