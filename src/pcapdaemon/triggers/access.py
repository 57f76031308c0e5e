"""Who may send alerts over HTTP: tokens and signatures. Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from pcapdaemon.triggers.settings import TriggerSettings

OLDEST = 300.0
"""Seconds by which the signed time of a message may differ from now."""


def token_refusal(settings: TriggerSettings, headers: Mapping[str, str], access_token: str) -> str:
    """Return why a sender may not send at all, or "". The names of `headers` are in lower case."""
    token = settings.token.get_secret_value() if settings.token else None
    if token is None or _has_token(token, headers, access_token):
        return ""
    return "send the token of the trigger: as bearer, as password or as ?access_token="


def signature_refusal(
    settings: TriggerSettings, headers: Mapping[str, str], body: bytes, now: float
) -> str:
    """Return why a message is not signed as it must be, or "".

    The names of `headers` are in lower case. `now` is seconds since the epoch.
    """
    if settings.secret is None:
        return ""
    secret = settings.secret.get_secret_value()
    match settings.signature:
        case "grafana":
            return _grafana(secret, settings.timestamp_header, headers, body, now)
        case "standard-webhooks":
            return _standard(secret, headers, body, now)
        case "github":
            return _hex(secret, headers.get("x-hub-signature-256", ""), "sha256=", body)
        case _:
            return _hex(secret, headers.get("x-pagerduty-signature", ""), "v1=", body)


def shown_token(headers: Mapping[str, str], access_token: str) -> str:
    """Return the token that a request shows, as bearer, as password or in the URL."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return access_token


def _has_token(token: str, headers: Mapping[str, str], access_token: str) -> bool:
    return hmac.compare_digest(shown_token(headers, access_token).encode(), token.encode())


def _grafana(
    secret: str, time_header: str | None, headers: Mapping[str, str], body: bytes, now: float
) -> str:
    signed = body
    if time_header:
        moment = headers.get(time_header.lower(), "")
        if words := _not_now(moment, time_header, now):
            return words
        signed = moment.encode() + b":" + body
    return _hex(secret, headers.get("x-grafana-alerting-signature", ""), "", signed)


def _standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """Check a signature as https://www.standardwebhooks.com defines it."""
    identity, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if words := _not_now(moment, "webhook-timestamp", now):
        return words
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = secret.encode()
    signed = f"{identity}.{moment}.".encode() + body
    right = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return _one_of(headers.get("webhook-signature", "").split(), right)


def _hex(secret: str, shown: str, before: str, signed: bytes) -> str:
    right = before + hmac.digest(secret.encode(), signed, hashlib.sha256).hex()
    return _one_of([one.strip() for one in shown.split(",")], right)


def _one_of(shown: list[str], right: str) -> str:
    # more than one key may be in use while it is exchanged
    fits = [hmac.compare_digest(one.encode(), right.encode()) for one in shown[:8]]
    return "" if any(fits) else "the signature is missing or wrong"


def _not_now(moment: str, header: str, now: float) -> str:
    if not (moment.isascii() and moment.isdigit() and len(moment) <= 12):
        return f"the header {header} with the time in seconds is missing or wrong"
    off = now - int(moment)
    return f"{header}: {off:.0f} s old, or a clock is off" if abs(off) > OLDEST else ""
