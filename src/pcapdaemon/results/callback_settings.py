"""`[[callback]]`: what is sent to the system that caused a request, when its captures end."""

import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pcapdaemon.core.fields import ResultKind
from pcapdaemon.core.match import Matcher, Matches, matchers_of
from pcapdaemon.core.network import unencrypted
from pcapdaemon.core.section import Section
from pcapdaemon.secrets import CertificateFile, HeaderSecret, SecretUrl


class CallbackSettings(Section):
    """One `[[callback]]`: results of certain requests, in the form that another system expects."""

    name: str = Field(
        pattern=r"^[a-z0-9-]{1,32}$", description="Its name in log lines and metrics."
    )
    kind: Literal["json", "grafana"] = Field(
        "json",
        description=(
            "`json` sends `body`. `grafana` sends an annotation of the dashboard and the panel in"
            " the URL of the cause."
        ),
    )
    url: SecretUrl = Field(
        description="Where to send it, for example `https://grafana/api/annotations`."
    )
    token: HeaderSecret | None = Field(
        None, min_length=1, description="Sent as `Authorization: Bearer TOKEN`."
    )
    events: Annotated[tuple[ResultKind, ...], Field(strict=False, min_length=1)] = Field(
        ("finished",), description="Which results are sent."
    )
    match: Matches = Field(
        {},
        description=(
            "Paths into the result and what must be there, as in `[[trigger]]`, for example"
            ' `{"cause.system" = "grafana"}`.'
        ),
    )
    body: dict[str, Any] = Field(
        {},
        description=(
            "The JSON object to send. Texts may contain `{path}`. A text that is only `{path}`"
            " becomes the value itself. Absent: the result as it is."
        ),
    )
    ca_file: CertificateFile | None = Field(
        None, description="Certificates to trust instead of the system's."
    )

    def flaws(self) -> list[str]:
        """Return a warning if the token can be read on its way."""
        plain = unencrypted((self.url.get_secret_value(),))
        return [f"[[callback]] {self.name} url is http://: it is sent unencrypted"] if plain else []

    @field_validator("body")
    @classmethod
    def _body_is_json(cls, body: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(body, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("must have only what JSON has: no dates, no nan and no inf") from None
        return body

    @model_validator(mode="after")
    def _grafana_has_a_form(self) -> "CallbackSettings":
        if self.kind == "grafana" and self.body:
            raise ValueError("body is for kind json; an annotation has a form of its own")
        if self.kind == "grafana" and self.events != ("finished",):
            raise ValueError("events must be finished for kind grafana")
        return self

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """The table `match`, in its order."""
        return matchers_of(self.match)
