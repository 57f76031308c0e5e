"""Tokens of OpenID Connect, with an issuer that this test runs."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pcapdaemon.trust import oidc
from pcapdaemon.trust.settings import OidcSettings

REQUIRED: list[Any] = ["exp", "iat", "sub", "aud", "iss"]


class Issuer:
    """Signs tokens, and serves its keys."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.kid, self.is_up, self.asked = "k1", True, 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = issuer.jwks() if issuer.is_up else b"no"
                self.send_response(200 if issuer.is_up else 503)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def jwks(self) -> bytes:
        found = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [{**found, "kid": self.kid, "alg": "RS256"}]}).encode()

    def token(self, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        whole = {
            "iss": "https://issuer.example",
            "aud": "pcapdaemon",
            "sub": "system:serviceaccount:ops:capturer",
            "iat": now,
            "exp": now + 60,
            **claims,
        }
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, key or self.key, algorithm, headers={"kid": self.kid})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def reader(issuer: Issuer) -> oidc.Oidc:
    return oidc.Oidc(
        OidcSettings(
            issuer="https://issuer.example",
            audience="pcapdaemon",
            keys=f"http://127.0.0.1:{issuer.server.server_port}/keys",
        )
    )


async def test_a_valid_token_says_who_it_is_and_the_keys_are_cached(issuer: Issuer) -> None:
    found = reader(issuer)
    for _ in range(3):
        assert await found.subject(issuer.token()) == "system:serviceaccount:ops:capturer"
    assert issuer.asked == 1
    issuer.is_up = False
    assert await found.subject(issuer.token())


async def test_a_token_for_others_or_of_others_is_refused(issuer: Issuer) -> None:
    found, now = reader(issuer), int(time.time())
    public = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = rsa.generate_private_key(65537, 2048)
    secret = b"x" * 32
    hostile = [
        issuer.token(aud="another"),
        issuer.token(iss="https://other.example"),
        issuer.token(exp=now - 60),
        issuer.token(iat=now + 600, nbf=now + 600),
        *(issuer.token(None, "RS256", **{name: None}) for name in REQUIRED),
        issuer.token(key=other),
        issuer.token(key=secret, algorithm="HS256"),
        jwt.encode({"sub": "x"}, "", "none", headers={"kid": "k1"}),
        "no token",
        "a.b.c",
        public.decode(),
    ]
    for token in hostile:
        assert await found.subject(token) == "", token


async def test_new_keys_are_fetched_but_not_for_every_stranger(issuer: Issuer) -> None:
    found = reader(issuer)
    assert await found.subject(issuer.token())
    issuer.kid = "k2"
    for _ in range(5):
        assert await found.subject(issuer.token()) == ""  # it asked a moment ago
    assert issuer.asked == 1
    found._tried_at -= oidc.AGAIN
    assert await found.subject(issuer.token())
    assert issuer.asked == 2


async def test_keys_that_were_not_renewed_for_a_day_count_no_longer(issuer: Issuer) -> None:
    found = reader(issuer)
    assert await found.subject(issuer.token())
    issuer.is_up = False
    found._fetched_at -= oidc.STALE
    found._tried_at -= oidc.AGAIN
    assert await found.subject(issuer.token()) == ""
