# SPDX-License-Identifier: Apache-2.0
"""The phone page's files and their server: headers, refusals, and nothing but the page."""

import gzip
import http.client
import json
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.phone.made import exported, finished

from consilium.errors import AccessDenied, ConfigError
from consilium.web.phone import policies, site
from consilium.web.phone.serving import make_server
from consilium.web.phone.site import PhoneSite, draw_icon, make_site, write_site

SOURCES = Path(__file__).parents[2] / "web-build/phone/source"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model"), finished("logistic", shape=(1, 28, 28)))


@pytest.fixture
def page(model: Path, monkeypatch: pytest.MonkeyPatch) -> PhoneSite:
    """The page's files, with stand-ins for what npm makes."""
    monkeypatch.setattr(site, "_built", lambda name: f"made {name}".encode())
    return make_site(model)


@pytest.fixture
def server(page: PhoneSite) -> Iterator[ThreadingHTTPServer]:
    with make_server(page, ("127.0.0.1", 0)) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body, {"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def constants(page: PhoneSite) -> dict[str, object]:
    lines = page.files["sw.js"].decode().splitlines()
    found = [re.fullmatch(r"const (\w+) = (.*);", line) for line in lines]
    return {one[1]: json.loads(one[2]) for one in found if one and one[2][0] in '{"0123456789'}


def test_service_worker_knows_every_other_file(page: PhoneSite) -> None:
    listed = constants(page)["FILES"]

    assert isinstance(listed, dict)
    assert set(listed) == set(page.files) - {"sw.js"}
    assert all(one["integrity"].startswith("sha256-") for one in listed.values())


def test_other_files_are_another_version(
    page: PhoneSite, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "draw_icon", lambda side: b"%d" % side)
    other = make_site(model)

    assert constants(page)["VERSION"] != constants(other)["VERSION"]


def test_same_model_is_the_same_page(page: PhoneSite, model: Path) -> None:
    assert make_site(model) == page


def test_folder_holds_every_file_twice(page: PhoneSite, tmp_path: Path) -> None:
    write_site(page, tmp_path / "out")

    for name, data in page.files.items():
        assert (tmp_path / "out" / name).read_bytes() == data
        assert gzip.decompress((tmp_path / "out" / f"{name}.gz").read_bytes()) == data


def test_a_full_folder_is_refused(page: PhoneSite, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(ConfigError, match="is not empty"):
        write_site(page, tmp_path)


def test_a_model_without_a_promise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="carries no privacy guarantee"):
        exported(tmp_path, finished("logistic", shape=(1, 28, 28), arm="federated"))


def test_scripts_that_were_not_made_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "files", lambda _package: tmp_path)

    with pytest.raises(ConfigError, match=r"run `make phone` \(needs npm\)"):
        make_site(model)


def test_icon_is_a_picture() -> None:
    assert draw_icon(192).startswith(b"\x89PNG")


# -- Policies -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", "worker.js", "sw.js", "model.onnx"])
def test_no_policy_lets_text_run(name: str) -> None:
    policy = policies.headers(name)["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    assert " 'unsafe-eval'" not in policy
    assert "http" not in policy


def test_only_the_service_worker_reaches_its_origin() -> None:
    reaching = [
        name
        for name in ("index.html", "worker.js", "app.js", "sw.js")
        if "connect-src 'none'" not in policies.headers(name)["Content-Security-Policy"]
    ]

    assert reaching == ["sw.js"]


def test_page_says_its_own_policy() -> None:
    said = re.search(r'Policy" content="([^"]+)"', (SOURCES / "index.html").read_text())
    sent = policies.headers("index.html")["Content-Security-Policy"]

    assert said is not None
    assert sent == f"{said[1]}; frame-ancestors 'none'"  # which a page cannot say itself


def test_page_holds_no_script_or_style_of_its_own() -> None:
    page = (SOURCES / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page) == []


def test_both_languages_say_the_same_things() -> None:
    english, german = (
        json.loads((SOURCES / f"words/{name}.json").read_text()) for name in ("en", "de")
    )

    assert set(english) == set(german)
    for key, words in english.items():
        if isinstance(words, str):
            assert set(re.findall(r"\{\w+\}", german[key])) == set(re.findall(r"\{\w+\}", words))
        elif isinstance(words, list):
            assert len(german[key]) == len(words)


# -- Server ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "index.html", "model.onnx", "worker.js", "?x=1"])
def test_files_come_with_their_headers(
    server: ThreadingHTTPServer, page: PhoneSite, name: str
) -> None:
    status, headers, body = ask(server, f"/{name}")
    file = name.partition("?")[0] or "index.html"

    assert status == 200
    assert gzip.decompress(body) == page.files[file]
    assert headers.items() >= policies.headers(file).items()


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/assets/", "/%2e%2e/", "/a.onnx"])
def test_nothing_else_is_there(server: ThreadingHTTPServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_takes_nothing(server: ThreadingHTTPServer, method: str) -> None:
    assert ask(server, "/index.html", method, b"pixels")[0] == 405


def test_head_has_no_body(server: ThreadingHTTPServer) -> None:
    status, headers, body = ask(server, "/index.html", "HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_beyond_this_machine_needs_a_certificate(page: PhoneSite) -> None:
    with pytest.raises(ConfigError, match=r"beyond this machine; expected --certificate"):
        make_server(page, ("0.0.0.0", 0))  # noqa: S104 - it is refused


def test_a_bad_certificate_is_refused(page: PhoneSite, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")

    with pytest.raises(ConfigError, match=r"certificate bad\.pem cannot be used"):
        make_server(page, ("127.0.0.1", 0), certificate=tmp_path / "bad.pem")


def test_it_speaks_tls(page: PhoneSite, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with make_server(page, ("127.0.0.1", 0), certificate=certificate, key=key) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(
            "localhost", server.server_address[1], timeout=10, context=trusting
        )
        connection.request("GET", "/app.css")
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        server.shutdown()
        thread.join()

    assert found == (200, page.files["app.css"])


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "chain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "chain.pem", folder / "key.pem"
