"""Sends results to the system that caused their request, in the form that it expects."""

import json
import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pcapdaemon import __version__
from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.core.paths import ABSENT, find
from pcapdaemon.core.text import printable, shortened
from pcapdaemon.filewatch import identity
from pcapdaemon.results.callback_settings import CallbackSettings
from pcapdaemon.results.webhook import REFUSED

LONGEST_TEXT = 4096

_PLACE = re.compile(r"\{([^{}]{1,256})\}")
_DASHBOARD = re.compile(r"/d/([A-Za-z0-9_-]{1,40})(?:[/?]|$)")
_PANEL = re.compile(r"[?&]viewPanel=(?:panel-)?([0-9]{1,9})(?:&|$)")


class Callback:
    """Sends results to one URL."""

    def __init__(self, settings: CallbackSettings) -> None:
        self.settings, self._url = settings, settings.url.get_secret_value()
        self.trusted = identity(settings.ca_file) if settings.ca_file else None
        trust = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
        self._http = httpx2.AsyncClient(verify=trust, timeout=15, follow_redirects=False)
        self._headers = {"user-agent": f"pcapdaemon/{__version__}"}
        if settings.token:
            self._headers["authorization"] = f"Bearer {settings.token.get_secret_value()}"

    def concerns(self, kind: str, data: Mapping[str, Any]) -> bool:
        """Return whether a result of this kind, with this data, is sent."""
        settings = self.settings
        if kind == "finished" and not data.get("final", True):
            return False  # another one follows, when the spool has delivered the savefile
        return kind in settings.events and all(matcher(data) for matcher in settings.matchers)

    async def send(self, body: bytes) -> None:
        """Send one result, a CloudEvent.

        Raises NotConnected or ResultRefused. Their messages do not contain the URL, which may have
        a secret.
        """
        host = urlsplit(self._url).hostname
        try:
            content = content_of(json.loads(body)["data"], self.settings)
            response = await self._http.post(self._url, json=content, headers=self._headers)
        except (httpx2.HTTPError, OSError) as error:
            words = printable(str(error)) or type(error).__name__
            raise NotConnected(f"{self.settings.name} {host}: {words}") from None
        if response.is_success:
            return
        words = f"{self.settings.name} {host}: status {response.status_code}"
        raise (ResultRefused if response.status_code in REFUSED else NotConnected)(words)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def content_of(data: Mapping[str, Any], settings: CallbackSettings) -> Any:
    """Return the JSON value that a result becomes."""
    if settings.kind == "grafana":
        return annotation(data)
    return _filled(settings.body, data) if settings.body else data


def annotation(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an annotation for Grafana's API: when packets were captured, and where they are."""
    captures = data.get("captures") or []
    begins = [one.get("first_packet_at") or one.get("started_at") for one in captures]
    ends = [one.get("last_packet_at") or one.get("trigger") for one in captures]
    received = data.get("received_at") or 0
    begin = min(filter(None, begins), default=received)
    end = max(filter(None, ends), default=begin)
    url = (data.get("cause") or {}).get("url", "")
    dashboard, panel = _DASHBOARD.search(url), _PANEL.search(url)
    found: dict[str, Any] = {"dashboardUID": dashboard[1]} if dashboard else {}
    if dashboard and panel:
        found["panelId"] = int(panel[1])
    return {
        **found,
        "time": int(begin * 1000),
        "timeEnd": int(max(begin, end) * 1000),
        "tags": ["pcapdaemon", str(data.get("id", ""))],
        "text": "\n".join(_line(data, one) for one in captures)[:LONGEST_TEXT],
    }


def _line(data: Mapping[str, Any], capture: Mapping[str, Any]) -> str:
    places = [one.get("link") or one.get("where") for one in capture["delivered"].values()]
    where = ", ".join(filter(None, places)) or capture["state"]
    return f"{capture.get('packets', 0)} packets on {data.get('node')}: {where}"


def _filled(value: Any, data: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, data) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, data) for one in value]
    if not isinstance(value, str):
        return value
    if whole := _PLACE.fullmatch(value):
        found = find(data, whole[1])
        return None if found is ABSENT else found
    return shortened(_PLACE.sub(lambda place: _text(find(data, place[1])), value), LONGEST_TEXT)


def _text(found: Any) -> str:
    if found is ABSENT or found is None:
        return ""
    return found if isinstance(found, str) else json.dumps(found)
