# SPDX-License-Identifier: Apache-2.0
"""An OpenID provider with real keys on loopback, whose word and signature a test may change."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

CLIENT, SECRET, LABEL = "consilium", "the provider's secret for us", "Charite account"
CURVE = Ed25519PrivateKey.generate()
SHORT = generate_private_key(65537, 1024)  # noqa: S505
KEYS: dict[str, RSAKey | ECKey | OKPKey] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "r", "use": "sig"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "e", "use": "sig"}),
    "Ed25519": OKPKey.import_key(CURVE, {"kid": "d", "use": "sig"}),
}
BY_HAND: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {  # joserfc signs none of these
    "HS256": (  # the public key, taken for a secret
        "HS256",
        "r",
        lambda data: hmac.digest(KEYS["RS256"].as_pem(private=False), data, "sha256"),
    ),
    "EdDSA": ("EdDSA", "d", CURVE.sign),  # the name that RFC 9864 has taken back
    "short": ("RS256", "s", lambda data: SHORT.sign(data, PKCS1v15(), SHA256())),
}
FORGED = RSAKey.generate_key(2048, {"kid": "r"})


@dataclass
class Grant:
    """What the provider remembers of a code."""

    challenge: str
    nonce: str
    back: str


class Provider(HTTPServer):
    """An OpenID provider; a test may change what it says and how it signs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.grants: dict[str, Grant] = {}
        self.says: dict[str, object] = {}
        self.metadata: dict[str, object] = {}
        self.algorithm = "RS256"
        self.key: Any = None

    def authorize(self, address: str) -> str:
        """What a browser does at the provider: its person agrees; where it is sent then."""
        asked = dict(parse_qsl(urlsplit(address).query))
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert set(asked["scope"].split()) == {"openid", "email"}
        code = f"code-{len(self.grants)}-{time.time_ns()}"
        self.grants[code] = Grant(asked["code_challenge"], asked["nonce"], asked["redirect_uri"])
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def document(self) -> dict[str, object]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
        } | self.metadata

    def keys(self) -> object:
        numbers = SHORT.public_key().public_numbers()
        short = {
            "kty": "RSA",
            "kid": "s",
            "n": _base64(numbers.n.to_bytes(128, "big")),
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }
        known: list[object] = list(KeySet(list(KEYS.values())).as_dict(private=False)["keys"])
        return {"keys": [*known, short]}

    def token(self, form: dict[str, str], credential: str) -> dict[str, object] | None:
        """RFC 6749, 4.1.3 and RFC 7636, 4.6: a code once, to its client, with its verifier."""
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        grant = self.grants.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = _base64(digest)
        if grant is None or credential != f"Basic {expected}":
            return None
        if grant.challenge != challenge or grant.back != form["redirect_uri"]:
            return None
        return {"access_token": "opaque", "token_type": "Bearer", "id_token": self.sign(grant)}

    def sign(self, grant: Grant) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.address,
            "sub": "4711",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": grant.nonce,
            "email": "Rossi@x.org",
            "email_verified": True,
        } | self.says
        left = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            return f"{_part({'alg': 'none'})}.{_part(left)}."
        if self.algorithm in BY_HAND:
            algorithm, key_id, signs = BY_HAND[self.algorithm]
            signed = f"{_part({'alg': algorithm, 'kid': key_id})}.{_part(left)}"
            return f"{signed}.{_base64(signs(signed.encode()))}"
        key = self.key or KEYS[self.algorithm]
        header = {"alg": self.algorithm, "kid": key.kid or "r"}
        return jws.serialize_compact(
            header, json.dumps(left).encode(), key, algorithms=[self.algorithm]
        )


def _part(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        if self.path.startswith("/authorize?"):
            self.send_response(302)
            self.send_header("Location", self.server.authorize(self.path))
            self.end_headers()
            return
        found = {
            "/.well-known/openid-configuration": self.server.document,
            "/keys": self.server.keys,
        }[self.path]
        self._answer(200, found())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        answer = self.server.token(form, self.headers.get("Authorization", ""))
        if answer is None:
            self._answer(400, {"error": "invalid_grant"})
        else:
            self._answer(200, answer)

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""
