# SPDX-License-Identifier: Apache-2.0
"""Other people's issuers: a file that is not there, secrets that others may read, a service."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from consilium.adapters.identity.remote_tokens import RemoteRule, ask_remote
from consilium.adapters.identity.settings import IdentitySettings, read_settings
from consilium.errors import AccessDenied, ConfigError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
YES = {
    "active": True,
    "sub": "scanner-3",
    "aud": "Charite",
    "exp": int(NOW.timestamp()) + 3600,
    "project": "pneumonia",
}


class Service(HTTPServer):
    """A token service that answers what a test says, and keeps what it was asked."""

    answer: object = YES
    status = 200
    asked = ""


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.asked = f"{self.headers['Authorization']} {self.rfile.read(length).decode()}"
        body = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), _Handler) as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def rule_of(service: Service) -> RemoteRule:
    address = f"http://127.0.0.1:{service.server_port}/introspect"
    return RemoteRule(address=address, credential="c", audience="Charite")


def ask(service: Service, token: str = "opaque") -> str:  # noqa: S107
    with httpx.Client() as client:
        return ask_remote(token, rule_of(service), client, now=NOW).project


def test_a_token_that_the_service_vouches_for_is_believed(service: Service) -> None:
    assert ask(service) == "pneumonia"
    assert service.asked == "Bearer c token=opaque"


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"aud": "LMU"},
        {"aud": ["LMU"]},
        {"sub": ""},
        {"project": ""},
        {"exp": int(NOW.timestamp())},
        {"exp": int(NOW.timestamp()) + 90_000},
        {"exp": "never"},
        {"active": "yes"},
    ],
)
def test_anything_but_a_plain_yes_is_a_no(service: Service, changes: dict[str, object]) -> None:
    service.answer = YES | changes

    with pytest.raises(AccessDenied):
        ask(service)


@pytest.mark.parametrize("status", [201, 302, 401, 500])
def test_any_other_status_is_a_no(service: Service, status: int) -> None:
    service.status = status

    with pytest.raises(AccessDenied):
        ask(service)


def test_an_answer_without_end_is_a_no(service: Service) -> None:
    service.answer = YES | {"more": "x" * 70_000}

    with pytest.raises(AccessDenied, match="more than"):
        ask(service)


def test_a_service_that_is_away_is_a_no() -> None:
    rule = RemoteRule(address="http://127.0.0.1:1/", credential="c", audience="Charite")

    with httpx.Client() as client, pytest.raises(AccessDenied, match="no answer"):
        ask_remote("opaque", rule, client, now=NOW)


@pytest.mark.parametrize("address", ["http://issuer.example/", "file:///etc", "issuer", ""])
def test_tokens_go_over_no_open_line(address: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        RemoteRule(address=address, credential="c", audience="Charite")


def test_without_a_file_nobody_else_is_believed(tmp_path: Path) -> None:
    assert read_settings(tmp_path, "Charite") == IdentitySettings()


def test_a_secret_and_a_service_are_read(tmp_path: Path) -> None:
    (tmp_path / "identity.toml").write_text(
        '[[tokens]]\nalgorithm = "HS256"\nkey_file = "s"\nissuer = "i"\n'
        '[token_service]\naddress = "https://issuer.example/"\ncredential_file = "c"\n'
    )
    for name in ("s", "c"):
        (tmp_path / name).write_text("x" * 32)
        (tmp_path / name).chmod(0o600)

    read = read_settings(tmp_path, "Charite")

    assert [rule.algorithm for rule in read.rules] == ["HS256"]
    assert read.service is not None
    assert "x" * 32 not in repr(read)


def test_an_identity_provider_is_read_and_its_secret_not_shown(tmp_path: Path) -> None:
    (tmp_path / "identity.toml").write_text(
        '[oidc]\nissuer = "https://login.example"\nclient_id = "consilium"\n'
        'client_secret_file = "s"\nlabel = "hospital account"\n'
    )
    (tmp_path / "s").write_text("x" * 32 + "\n")
    (tmp_path / "s").chmod(0o600)

    read = read_settings(tmp_path, "Charite")

    assert read.provider is not None
    assert (read.provider.client_secret, read.provider.label) == ("x" * 32, "hospital account")
    assert "x" * 32 not in repr(read)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity.toml").write_text(
        '[[tokens]]\nalgorithm = "HS256"\nkey_file = "s"\nissuer = "i"\n'
    )
    (tmp_path / "s").write_text("x" * 32)
    (tmp_path / "s").chmod(0o644)

    with pytest.raises(ConfigError, match="600"):
        read_settings(tmp_path, "Charite")


@pytest.mark.parametrize("text", ["[tokens", "[other]\n", '[[tokens]]\nalgorithm = "none"\n'])
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.toml").write_text(text)

    with pytest.raises(ConfigError, match="identity"):
        read_settings(tmp_path, "Charite")
