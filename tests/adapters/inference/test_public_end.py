# SPDX-License-Identifier: Apache-2.0
"""The HTTPS end: what is not a share is refused with the right status and words, soon, and
nothing of a share, a token or an answer is repeated or logged."""

import json
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.adapters.inference.parties import (
    Parties,
    publish_small,
    read_port,
    some_images,
    three_operators,
    until,
)

from consilium.adapters.inference import public_end
from consilium.adapters.inference.publishing import revoke
from consilium.errors import DataError

SIZE = 28 * 28 * 5
SHARE = b"\xa5\x5a\xc3\x3c\x99" * (28 * 28)


@dataclass(slots=True)
class End:
    """One operator's HTTPS end; at operator 1 nobody leads a session that is only there."""

    parties: Parties
    client: httpx.Client
    name: str

    def post(
        self,
        body: bytes = SHARE,
        *,
        session: str = "",
        token: str = "",
        **query: str,
    ) -> httpx.Response:
        return self.client.post(
            f"/v1/sessions/{session or secrets.token_hex(16)}",
            params={"model": self.name, "count": "1", **query},
            content=body,
            headers={"Authorization": f"Bearer {token or secrets.token_hex(32)}"},
        )


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[End]:
    with three_operators(tmp_path_factory.mktemp("end")) as parties:
        name = publish_small(parties)
        with client(parties, 1) as asking:
            yield End(parties, asking, name.hex())


def client(parties: Parties, party: int) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{read_port(parties.kits, party)}",
        verify=trusting(parties),
        trust_env=False,
        timeout=30,
    )


def trusting(parties: Parties) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(parties.kits / "authority.pem"))


@pytest.mark.parametrize(
    ("query", "body", "status", "words"),
    [
        ({}, SHARE[:-1], 422, "a share of 3919 bytes or more; expected 3920 for 1 images"),
        ({}, SHARE + b"0", 422, "expected 3920"),
        ({}, b"", 422, "a share of 0 bytes"),
        ({"count": "2"}, SHARE, 422, "expected 7840 for 2 images"),
        ({"count": "0"}, SHARE, 422, "expected 1 to 64"),
        ({"count": "65"}, SHARE * 65, 422, "expected 1 to 64"),
        ({"count": "-1"}, SHARE, 422, "expected 1 to 64"),
        ({"count": "9" * 5000}, SHARE, 422, "expected 1 to 64"),
        ({"count": "60"}, SHARE * 60, 422, "material for 3 images is left and 60"),
        ({"model": "ab" * 32}, SHARE, 422, "no such model here"),
        ({"model": "ab" * 31}, SHARE, 422, "expected 32 bytes in hexadecimal"),
        ({"model": "zz" * 32}, SHARE, 422, "expected 32 bytes in hexadecimal"),
        ({"model": ""}, SHARE, 422, "expected 32 bytes in hexadecimal"),
        ({"session": "ab" * 15}, SHARE, 422, "expected 16 bytes in hexadecimal"),
        ({"session": "../../etc/passwd"}, SHARE, 404, ""),
        ({"token": "ab" * 31}, SHARE, 403, "no token"),
        ({"token": "zz" * 32}, SHARE, 403, "no token"),
    ],
)
def test_what_is_no_share_is_refused(
    end: End, query: dict[str, str], body: bytes, status: int, words: str
) -> None:
    start = time.monotonic()

    said = end.post(body, **query)

    assert said.status_code == status
    assert words in said.text
    assert time.monotonic() - start < 10
    assert len(said.content) < 300


def test_without_a_token_nobody_is_served(end: End) -> None:
    path = f"/v1/sessions/{secrets.token_hex(16)}"

    for said in (
        end.client.post(path, params={"model": end.name}),
        end.client.get(path + "/answer"),
    ):
        assert said.status_code == 403
        assert "Authorization: Bearer" in said.json()["error"]


def test_a_session_comes_once_and_its_answer_goes_to_its_token(end: End) -> None:
    session, token = secrets.token_hex(16), secrets.token_hex(32)
    assert end.post(session=session, token=token).status_code == 202

    again = end.post(session=session, token=token)
    path = f"/v1/sessions/{session}/answer"
    false = end.client.get(path, headers={"Authorization": f"Bearer {secrets.token_hex(32)}"})

    assert (again.status_code, false.status_code) == (422, 403)
    assert "a retry is a new session" in again.text
    assert "no such session here" in false.text


def test_no_token_or_share_is_repeated_or_logged(
    end: End, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    tokens = [secrets.token_hex(32), secrets.token_hex(31), "x" + secrets.token_hex(32)]

    said = [end.post(token=token, body=SHARE + SHARE).text for token in tokens]
    said += [end.post(token=token).text for token in tokens]

    out = capfd.readouterr()
    everything = "".join(said) + caplog.text + out.out + out.err
    for secret in (*(token[:20] for token in tokens), SHARE[:8].hex(), repr(SHARE[:8])[2:-1]):
        assert secret not in everything


def test_a_method_or_path_that_is_not_there_is_refused(end: End) -> None:
    assert end.client.put("/v1/models").status_code == 405
    assert end.client.get("/v1/sessions").status_code == 404
    assert end.client.get("/").status_code == 404


def test_another_origin_gets_no_permission(end: End) -> None:
    said = end.client.get("/v1/models", headers={"Origin": "https://evil.example"})

    assert "access-control-allow-origin" not in said.headers


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(st.characters(codec="utf-8"), max_size=40),
    query=st.dictionaries(st.sampled_from(["model", "count", "x"]), st.text(max_size=70)),
    words=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
    body=st.binary(max_size=200),
)
def test_nothing_that_is_sent_breaks_it(
    end: End, path: str, query: dict[str, str], words: str, body: bytes
) -> None:
    target = "/v1/sessions/" + quote(path, safe="/")
    for method in ("POST", "GET"):
        said = end.client.request(
            method, target, params=query, content=body, headers={"Authorization": words}
        )
        assert 400 <= said.status_code < 500
        if said.status_code in (403, 422):
            assert json.loads(said.content).keys() == {"error"}


# -- Over real TLS --------------------------------------------------------------------


def connected(end: End) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", read_port(end.parties.kits, 1)), timeout=20)
    return trusting(end.parties).wrap_socket(plain, server_hostname="127.0.0.1")


def head(end: End, length: int) -> bytes:
    return (
        f"POST /v1/sessions/{secrets.token_hex(16)}?model={end.name} HTTP/1.1\r\n"
        f"Host: 127.0.0.1\r\nAuthorization: Bearer {secrets.token_hex(32)}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_slow_share_ends_in_time(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_end, "_UPLOAD", 0.5)
    start = time.monotonic()
    with connected(end) as link:
        link.sendall(head(end, SIZE) + b"0123456789")
        said = link.recv(4096)

    assert b"422" in said.split(b"\r\n")[0]
    assert time.monotonic() - start < 10


def test_a_share_that_breaks_off_leaves_nothing(end: End, caplog: pytest.LogCaptureFixture) -> None:
    with connected(end) as link:
        link.sendall(head(end, SIZE) + SHARE[:100])
    time.sleep(0.5)

    assert "Exception" not in caplog.text
    assert end.client.get("/v1/models").status_code == 200


def test_an_endless_share_is_cut(end: End) -> None:
    with connected(end) as link:
        link.sendall(head(end, 10**12) + SHARE + b"0")
        said = link.recv(4096)

    assert b"422" in said.split(b"\r\n")[0]


def test_a_share_at_one_operator_only_ends_with_a_reason(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilium.adapters.inference.computing._SHARE_PATIENCE", 0.5)
    session, token = secrets.token_hex(16), secrets.token_hex(32)
    with client(end.parties, 0) as first:
        assert End(end.parties, first, end.name).post(session=session, token=token).is_success

        path = f"/v1/sessions/{session}/answer"
        said = first.get(path, headers={"Authorization": f"Bearer {token}"})

    assert said.status_code == 410
    assert "did not come to both operators" in said.json()["error"]


def test_a_revoked_model_is_refused_and_others_are_not(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name, other = publish_small(parties), publish_small(parties)
        revoke(parties.kits / "owner", name)
        with client(parties, 0) as first:
            said = End(parties, first, name.hex()).post()

        assert said.status_code == 403
        assert "revoked by its owner" in said.json()["error"]
        (offered,) = parties.patient.models()
        assert offered.publication == other.hex()
        until(lambda: parties.patient.images_left(other.hex()) > 0)
        parties.patient.ask(offered, some_images(1).numpy())
        with pytest.raises(DataError, match="images of shape"):
            parties.patient.ask(offered, some_images(1).numpy()[:, :, :20])
